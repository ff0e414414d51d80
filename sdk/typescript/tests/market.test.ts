// The book of several groups over a connection, with a gateway that does what the test says.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { create, toBinary } from '@bufbuild/protobuf';

import { FeatureFlagsSchema, SnapshotBatchSchema, TickBatchSchema } from '../src/contracts.js';
import { featureFlags, share } from '../src/flags.js';
import { market, type MarketBook, type MarketFrame, type Quote } from '../src/market.js';
import { FakeBrowser, settle, text, type FakeConnection, type Tab } from './fakes.js';

interface Bench {
  browser: FakeBrowser;
  tab: Tab;
  connection: FakeConnection;
  book: MarketBook;
  shown: { changed: Map<string, Quote>; info: MarketFrame }[];
  frame(): void;
  send(channel: string, data: Uint8Array): Promise<void>;
}

/** Answers of `md.snapshot`, by group. */
type Answers = Record<string, () => Uint8Array | Promise<Uint8Array>>;

async function bench(groups: string[], answers: Answers = {}, options: object = {}): Promise<Bench> {
  const browser = new FakeBrowser();
  browser.gateway.answer = async (call) => {
    assert.ok(call.op === 'rpc' && call.method === 'md.snapshot');
    const { group } = JSON.parse(text(call.data)) as { group: string };
    const answer = answers[group];
    if (answer === undefined) throw new Error('no such group');
    return { op: 'rpc', data: await answer() };
  };
  const tab = browser.tab('a');
  await settle();
  const shown: Bench['shown'] = [];
  const frames: (() => void)[] = [];
  const book = market(tab.client, {
    groups,
    onFrame: (changed, info) => shown.push({ changed, info }),
    world: { clock: browser.clock, random: () => 0.5, schedule: (run) => void frames.push(run), frameNow: () => 0 },
    ...options,
  });
  await settle();
  const [connection] = browser.gateway.connections as [FakeConnection];
  return {
    browser,
    tab,
    connection,
    book,
    shown,
    frame: () => frames.splice(0).forEach((run) => run()),
    async send(channel, data) {
      connection.subscriptions.get(channel)?.events.publication({ channel, data });
      await settle();
    },
  };
}

const T0 = 1_700_000_000_000;

function ticks(group: string, seq: number, price: number, symbol = 'S000'): Uint8Array {
  const tsMs = BigInt(T0 + seq * 33);
  return toBinary(
    TickBatchSchema,
    create(TickBatchSchema, { group, seq: BigInt(seq), tsMs, ticks: [{ tsMs, symbol, price, volume: 5n }] }),
  );
}

function snapshot(group: string, seq: number, last: number, symbol = 'S000', volume = 100n): Uint8Array {
  const tsMs = BigInt(T0 + seq * 33);
  const state = { tsMs, symbol, bid: last - 1, ask: last + 1, bidSize: 3n, askSize: 4n, last, volume };
  return toBinary(SnapshotBatchSchema, create(SnapshotBatchSchema, { group, seq: BigInt(seq), tsMs, snapshots: [state] }));
}

test('a snapshot is asked for at once, and ticks follow it', async () => {
  const { book, send, frame, shown } = await bench(['g00'], { g00: () => snapshot('g00', 10, 50) });
  await send('xy.md.tick.g00', ticks('g00', 11, 51));
  frame();
  const quote = book.quotes.get('S000');
  assert.deepEqual(
    [quote?.last, quote?.volume, quote?.bid, quote?.ask, quote?.bidSize, quote?.group],
    [51, 105, 49, 51, 3, 'g00'],
  );
  assert.deepEqual(shown.map(({ changed }) => [...changed.keys()]), [['S000']]);
});

test('a gap asks for one snapshot, however many ticks come meanwhile', async () => {
  let next = 10;
  let release = (): void => {};
  const answer = (): Promise<Uint8Array> => {
    const data = snapshot('g00', next, 50 + next);
    if (next === 10) return Promise.resolve(data);
    return new Promise((resolve) => (release = () => resolve(snapshot('g00', next, 50 + next))));
  };
  const { browser, book, send } = await bench(['g00'], { g00: answer });
  assert.equal(browser.gateway.calls.length, 1);
  await send('xy.md.tick.g00', ticks('g00', 11, 1));
  next = 20;
  await send('xy.md.tick.g00', ticks('g00', 11, 1));
  await send('xy.md.tick.g00', ticks('g00', 14, 1));
  await send('xy.md.tick.g00', ticks('g00', 15, 1));
  await send('xy.md.tick.g00', ticks('g00', 16, 1));
  assert.equal(browser.gateway.calls.length, 2);
  release();
  await settle();
  assert.equal(book.quotes.get('S000')?.last, 70);
  await browser.clock.advance(300);
  const { gaps, requests } = book.stats.get();
  assert.deepEqual([gaps, requests], [1, 2]);
});

test('failures are answered with patience, and a periodic snapshot helps as well', async () => {
  const { browser, book, send } = await bench(['g00']);
  const after = async (ms: number): Promise<number> => (await browser.clock.advance(ms), browser.gateway.calls.length);
  assert.equal(await after(0), 1);
  assert.equal(await after(100), 2);
  assert.equal(await after(200), 3);
  const calls = await after(10_000);
  assert.ok(calls >= 7 && calls <= 10, `${calls}`);
  await send('xy.md.snapshot.g00', snapshot('g00', 7, 42));
  assert.equal(book.quotes.get('S000')?.last, 42);
  const settled = await after(0);
  assert.equal(await after(20_000), settled);
});

test('publications lost on the way to the tab and a new subscription ask for a snapshot', async () => {
  const { browser, connection } = await bench(['g00'], { g00: () => snapshot('g00', 10, 50) });
  const before = browser.gateway.calls.length;
  connection.tell('xy.md.tick.g00', { event: 'lost' });
  await settle();
  assert.equal(browser.gateway.calls.length, before + 1);
});

test('silence is stale, and what cannot be read is counted', async () => {
  const { browser, book, send } = await bench(['g00'], { g00: () => snapshot('g00', 10, 50) });
  await browser.clock.advance(600);
  assert.equal(book.stats.get().stale, false);
  await browser.clock.advance(1000);
  assert.equal(book.stats.get().stale, true);
  await send('xy.md.tick.g00', new Uint8Array([255, 255, 255]));
  await send('xy.md.snapshot.g00', snapshot('g99', 11, 1));
  await browser.clock.advance(250);
  assert.deepEqual([book.stats.get().invalid, book.stats.get().stale, book.stats.get().symbols], [2, false, 1]);
});

test('fields of a newer gateway are tolerated', async () => {
  const { book, send } = await bench(['g00'], { g00: () => snapshot('g00', 10, 50) });
  // Field 100, a text.
  const more = new Uint8Array([...ticks('g00', 11, 51), 0xa2, 0x06, 0x02, 0x68, 0x69]);
  await send('xy.md.tick.g00', more);
  assert.equal(book.quotes.get('S000')?.last, 51);
});

test('symbols beyond the limit are left out', async () => {
  const answers = { g00: () => snapshot('g00', 1, 50, 'A'), g01: () => snapshot('g01', 1, 50, 'B') };
  const { browser, book } = await bench(['g00', 'g01'], answers, { maxSymbols: 1 });
  await browser.clock.advance(250);
  assert.deepEqual([book.quotes.size, book.stats.get().invalid], [1, 1]);
});

test('a tab that comes later is shown what is there, and nothing counts as missing', async () => {
  let next = 1;
  const { browser, send } = await bench(['g00'], { g00: () => snapshot('g00', next, next) });
  await send('xy.md.snapshot.g00', snapshot('g00', 2, 2));
  await send('xy.md.tick.g00', ticks('g00', 3, 3));
  next = 4;
  const later = market(browser.tab('b').client, {
    groups: ['g00'],
    world: { clock: browser.clock, random: () => 0.5, schedule: () => {}, frameNow: () => 0 },
  });
  await settle();
  await send('xy.md.tick.g00', ticks('g00', 5, 5));
  await browser.clock.advance(300);
  const { gaps, seqs } = later.stats.get();
  assert.deepEqual([gaps, seqs], [0, { g00: 5 }]);
  assert.equal(later.quotes.get('S000')?.last, 5);
});

test('ages are those of the last snapshot and batch', async () => {
  const { browser, book, send } = await bench(['g00'], { g00: () => snapshot('g00', 0, 50) });
  await send('xy.md.tick.g00', ticks('g00', 1, 51));
  await browser.clock.advance(500);
  const { snapshotAgeMs, latencyMs, updatesPerSecond, seqs } = book.stats.get();
  assert.deepEqual([snapshotAgeMs, latencyMs, seqs], [500, 0, { g00: 1 }]);
  assert.equal(updatesPerSecond, 2);
});

test('a closed book wants nothing more', async () => {
  const { browser, book, connection } = await bench(['g00']);
  book.close();
  const calls = browser.gateway.calls.length;
  await browser.clock.advance(20_000);
  assert.equal(browser.gateway.calls.length, calls);
  assert.equal(connection.subscriptions.size, 0);
});

test('flags follow the channel, and an older state does not replace a newer one', async () => {
  const browser = new FakeBrowser();
  const { client } = browser.tab('a');
  const flags = featureFlags(client);
  await settle();
  const send = async (version: bigint, on: boolean): Promise<void> => {
    const data = toBinary(FeatureFlagsSchema, create(FeatureFlagsSchema, { version, flags: { canary: on } }));
    browser.gateway.open[0]!.subscriptions.get('xy.flags')!.events.publication({ channel: 'xy.flags', data });
    await settle();
  };
  assert.equal(flags.on('canary'), false);
  await send(2n, true);
  assert.equal(flags.on('canary'), true);
  await send(1n, false);
  assert.deepEqual([flags.on('canary'), flags.get().version], [true, 2]);
  assert.equal(flags.on('toString'), false);
});

test('a user has the place within a flag that the contract says, and is in the part below the percentage', async () => {
  const places = [
    ['gateway.unsent_limit', 'alice', 59],
    ['gateway.unsent_limit', 'bob', 43],
    ['canary', 'alice', 73],
    ['canary', '', 92],
    ['canary', 'größe', 2],
    ['canary', 'ann', 78],
    ['canary', 'bob', 87],
  ] as const;
  for (const [name, user, place] of places) assert.equal(share(name, user), place, `${name} ${user}`);

  const browser = new FakeBrowser();
  const { client } = browser.tab('a');
  const [ann, bob] = [featureFlags(client, { user: 'ann' }), featureFlags(client, { user: 'bob' })];
  await settle();
  const data = toBinary(FeatureFlagsSchema, create(FeatureFlagsSchema, { version: 1n, rollouts: { canary: 80 } }));
  browser.gateway.open[0]!.subscriptions.get('xy.flags')!.events.publication({ channel: 'xy.flags', data });
  await settle();
  assert.deepEqual([ann.on('canary'), bob.on('canary'), ann.on('toString')], [true, false, false]);
});
