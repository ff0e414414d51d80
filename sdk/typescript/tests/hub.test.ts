// Tabs that share one connection.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Tab as HubTab, WINDOW } from '../src/hub/tab.js';
import type { ChannelEvent, ToTab } from '../src/messages.js';
import { CallFailure, Unauthorized } from '../src/upstream.js';
import { FakeBrowser, SUBSCRIBED, settle, text, type Tab } from './fakes.js';

function listen(tab: Tab, channel: string, options: object = {}): { data: string[]; events: string[]; end(): void } {
  const heard = { data: [] as string[], events: [] as string[] };
  const note = (event: ChannelEvent): void => void heard.events.push(event.event);
  const subscription = tab.client.subscribe(channel, {
    onData: (publications) => heard.data.push(...publications.map(({ data }) => text(data))),
    onSubscribed: note,
    onSubscribing: note,
    onUnsubscribed: note,
    onError: note,
    onLost: () => heard.events.push('lost'),
    ...options,
  });
  return { ...heard, end: () => subscription.unsubscribe() };
}

async function browserWith(count: number, options: object = {}): Promise<{ browser: FakeBrowser; tabs: Tab[] }> {
  const browser = new FakeBrowser();
  const tabs = Array.from({ length: count }, (_, index) => browser.tab(`tab-${index}`, options));
  await settle();
  return { browser, tabs };
}

test('five tabs have one connection, and each knows of five', async () => {
  const { browser, tabs } = await browserWith(5);
  assert.equal(browser.gateway.connections.length, 1);
  for (const { client } of tabs) {
    const { state, connections, tabs: count, mode } = client.state.get();
    assert.deepEqual({ state, connections, count, mode }, { state: 'connected', connections: 1, count: 5, mode: 'shared-worker' });
  }
});

test('tabs of different identities do not share', async () => {
  const browser = new FakeBrowser();
  const ann = browser.tab('a', { identity: 'ann' });
  const bob = browser.tab('b', { identity: 'bob' });
  await settle();
  assert.equal(browser.gateway.open.length, 2);
  assert.equal(ann.client.state.get().tabs, 1);
  assert.equal(bob.client.state.get().tabs, 1);
});

test('a channel is subscribed to once and delivered to every tab that wants it', async () => {
  const { browser, tabs } = await browserWith(3);
  const [first, second] = [listen(tabs[0]!, 'news'), listen(tabs[1]!, 'news')];
  const other = listen(tabs[2]!, 'sport');
  await settle();
  browser.gateway.publish('news', 'one');
  browser.gateway.publish('news', 'two');
  await settle();
  assert.deepEqual(browser.gateway.connections[0]!.subscribed, ['news', 'sport']);
  assert.deepEqual([first.data, second.data, other.data], [['one', 'two'], ['one', 'two'], []]);
});

test('publications that arrive together are delivered together', async () => {
  const { browser, tabs } = await browserWith(1);
  const sizes: number[] = [];
  tabs[0]!.client.subscribe('news', { onData: (publications) => sizes.push(publications.length) });
  await settle();
  for (const word of ['a', 'b', 'c']) browser.gateway.publish('news', word);
  await settle();
  assert.deepEqual(sizes, [3]);
});

test('the last tab out unsubscribes, and the last one of all disconnects', async () => {
  const { browser, tabs } = await browserWith(2);
  const [first, second] = [listen(tabs[0]!, 'news'), listen(tabs[1]!, 'news')];
  await settle();
  const [connection] = browser.gateway.connections;
  first.end();
  await browser.clock.advance(500);
  assert.ok(connection!.subscriptions.has('news'));
  second.end();
  await browser.clock.advance(500);
  assert.ok(!connection!.subscriptions.has('news'));
  tabs[0]!.client.close();
  await settle();
  assert.equal(browser.gateway.open.length, 1);
  assert.equal(tabs[1]!.client.state.get().tabs, 1);
  tabs[1]!.client.close();
  await settle();
  assert.equal(browser.gateway.open.length, 0);
});

test('unsubscribing and subscribing within a moment keeps the subscription', async () => {
  const { browser, tabs } = await browserWith(1);
  listen(tabs[0]!, 'news').end();
  const again = listen(tabs[0]!, 'news');
  await browser.clock.advance(1000);
  browser.gateway.publish('news', 'one');
  await settle();
  assert.deepEqual(browser.gateway.connections[0]!.subscribed, ['news']);
  assert.deepEqual(again.data, ['one']);
});

test('a tab that dies is noticed at once by its lock', async () => {
  const { browser, tabs } = await browserWith(2);
  listen(tabs[0]!, 'mine');
  await settle();
  tabs[0]!.die();
  await settle();
  assert.equal(tabs[1]!.client.state.get().tabs, 1);
  await browser.clock.advance(500);
  assert.ok(!browser.gateway.connections[0]!.subscriptions.has('mine'));
});

test('a tab that dies is noticed by its silence where there are no locks', async () => {
  const browser = new FakeBrowser();
  browser.hasLocks = false;
  const [first, second] = [browser.tab('a'), browser.tab('b')];
  await settle();
  first.die();
  await browser.clock.advance(10_000);
  assert.equal(second.client.state.get().tabs, 2);
  await browser.clock.advance(15_000);
  assert.equal(second.client.state.get().tabs, 1);
});

test('a page that goes leaves at once and moves nobody; put aside and shown again, it is back', async () => {
  const { browser, tabs } = await browserWith(3);
  const heard = listen(tabs[0]!, 'news');
  await settle();
  tabs[0]!.page('hide');
  await browser.clock.advance(5000);
  assert.equal(tabs[1]!.client.state.get().tabs, 2);
  tabs[0]!.page('show');
  await settle();
  browser.gateway.publish('news', 'one');
  await settle();
  assert.deepEqual(heard.data, ['one']);
  assert.deepEqual([tabs[1]!.client.state.get().tabs, browser.workers.length, browser.gateway.connections.length], [3, 1, 1]);
});

test('a tab that was silent for long comes back by itself', async () => {
  const { browser, tabs } = await browserWith(2);
  const [worker] = browser.workers;
  const heard = listen(tabs[0]!, 'news');
  await settle();
  worker!.mute.add(tabs[0]!);
  await browser.clock.advance(20_000);
  worker!.mute.clear();
  await browser.clock.advance(3000);
  assert.deepEqual([tabs[0]!.client.state.get().tabs, browser.workers.length], [2, 1]);
  browser.gateway.publish('news', 'one');
  await settle();
  assert.deepEqual(heard.data, ['one']);
});

test('one tab is asked for the token, one that is looked at first', async () => {
  const browser = new FakeBrowser();
  browser.gateway.accepts = false;
  const asked: string[] = [];
  const tokenOf = (name: string) => ({ getToken: async () => (asked.push(name), `token of ${name}`) });
  const hidden = browser.tab('a', tokenOf('a'));
  hidden.visible = false;
  await settle();
  browser.tab('b', tokenOf('b'));
  browser.tab('c', tokenOf('c')).visible = false;
  await settle();
  const [connection] = browser.gateway.connections;
  await connection!.establish();
  assert.deepEqual(asked, ['b']);
  assert.equal(connection!.token, 'token of b');
});

test('another tab is asked when one does not answer, fails or dies', async () => {
  const browser = new FakeBrowser();
  browser.gateway.accepts = false;
  const asked: string[] = [];
  browser.tab('mute', { getToken: () => (asked.push('mute'), new Promise(() => {})) });
  await settle();
  await browser.clock.advance(10);
  browser.tab('failing', { getToken: async () => (asked.push('failing'), Promise.reject(new Error('no network'))) });
  browser.tab('good', { getToken: async () => (asked.push('good'), 'token') });
  await settle();
  const establishing = browser.gateway.connections[0]!.establish();
  await browser.clock.advance(2500);
  await establishing;
  assert.equal(browser.gateway.connections[0]!.token, 'token');
  assert.equal(new Set(asked).size, asked.length);
});

test('no token at all fails in the end, and unauthorized gives up', async () => {
  const browser = new FakeBrowser();
  const tab = browser.tab('a', { getToken: () => Promise.reject(new Unauthorized('logged out')) });
  await settle();
  const { state, connections, reason } = tab.client.state.get();
  assert.deepEqual({ state, connections, reason }, { state: 'disconnected', connections: 0, reason: 'logged out' });
  tab.client.close();

  const mute = browser.tab('b', { identity: 'b', getToken: () => new Promise(() => {}) });
  await browser.clock.advance(11_000);
  assert.match(mute.client.state.get().reason ?? '', /token/);
});

test('reconnect tries again after the connection was given up', async () => {
  const browser = new FakeBrowser();
  let allowed = false;
  const getToken = async (): Promise<string> => {
    if (!allowed) throw new Unauthorized('logged out');
    return 'token';
  };
  const { client } = browser.tab('a', { getToken });
  await settle();
  allowed = true;
  client.reconnect();
  await settle();
  assert.equal(client.state.get().state, 'connected');
});

test('a worker that dies is replaced, and subscriptions and positions are restored', async () => {
  const { browser, tabs } = await browserWith(3);
  const heard = tabs.map((tab) => listen(tab, 'news', { recoverable: true }));
  await settle();
  const [before] = browser.gateway.connections;
  const position = { offset: 4, epoch: 'e' };
  before!.tell('news', { ...SUBSCRIBED, recoverable: true, position } as ChannelEvent);
  before!.publish('news', 'five', 5);
  await settle();
  browser.crash();
  await settle();
  await browser.clock.advance(200);
  assert.equal(browser.gateway.open.length, 1);
  const [now] = browser.gateway.open;
  assert.deepEqual(now!.subscriptions.get('news')?.options.since, { offset: 5, epoch: 'e' });
  const after = { ...SUBSCRIBED, recoverable: true, wasRecovering: true, recovered: true } as ChannelEvent;
  now!.tell('news', { ...after, position: { offset: 6, epoch: 'e' } } as ChannelEvent);
  now!.publish('news', 'six', 6);
  await settle();
  for (const { data } of heard) assert.deepEqual(data, ['five', 'six']);
  for (const { client } of tabs) assert.equal(client.state.get().tabs, 3);
});

for (const [locks, withinMs] of [[true, 5000], [false, 2900]] as const) {
  test(`a worker that hangs is replaced within ${withinMs} ms ${locks ? 'with' : 'without'} locks`, async () => {
    const browser = new FakeBrowser();
    browser.hasLocks = locks;
    const tabs = ['a', 'b'].map((id) => browser.tab(id));
    await settle();
    // It holds its lock and its connection, but says nothing any more.
    browser.workers[0]!.alive = false;
    await browser.clock.advance(withinMs);
    assert.equal(browser.workers.length, 2);
    for (const { client } of tabs) assert.deepEqual([client.state.get().state, client.state.get().tabs], ['connected', 2]);
  });
}

test('a machine that is busy for three seconds moves nobody', async () => {
  const { browser, tabs } = await browserWith(2);
  browser.workers[0]!.alive = false;
  await browser.clock.advance(3000);
  browser.workers[0]!.alive = true;
  await browser.clock.advance(5000);
  assert.equal(browser.workers.length, 1);
  assert.equal(tabs[0]!.client.state.get().state, 'connected');
});

test('tabs that were not in doubt follow one that has a new worker', async () => {
  const { browser, tabs } = await browserWith(3);
  // Only the first tab is cut off from a worker that lives.
  browser.workers[0]!.deaf.add(tabs[0]!);
  await browser.clock.advance(5000);
  assert.equal(browser.workers.length, 2);
  for (const { client } of tabs) assert.equal(client.state.get().tabs, 3);
  // The first worker waits for the tab that it does not hear.
  await browser.clock.advance(21_000);
  assert.equal(browser.gateway.open.length, 1);
});

test('why it does not connect is said', async () => {
  const browser = new FakeBrowser();
  browser.gateway.accepts = false;
  const { client } = browser.tab('a');
  await settle();
  browser.gateway.connections[0]!.events.failed(2, 'transport closed');
  await settle();
  assert.deepEqual([client.state.get().state, client.state.get().reason], ['connecting', 'transport closed']);
});

test('without workers another mode is used, and said so', async () => {
  const browser = new FakeBrowser();
  browser.startsWorkers = false;
  const { client } = browser.tab('a', {}, ['shared-worker', 'leader', 'own']);
  await browser.clock.advance(1000);
  assert.equal(client.mode, 'leader');
  assert.deepEqual([client.state.get().state, client.state.get().mode], ['connected', 'leader']);
});

test('a tab of its own connects for itself', async () => {
  const browser = new FakeBrowser();
  const tabs = ['a', 'b'].map((id) => browser.tab(id, {}, ['own']));
  await settle();
  assert.equal(browser.gateway.open.length, 2);
  assert.deepEqual(tabs.map(({ client }) => [client.mode, client.state.get().tabs]), [['own', 1], ['own', 1]]);
  tabs[0]!.client.close();
  await settle();
  assert.equal(browser.gateway.open.length, 1);
});

test('calls are answered, refused with the code of the server, and shared when that is allowed', async () => {
  const { browser, tabs } = await browserWith(2);
  assert.equal(text(await tabs[0]!.client.rpc('echo', { a: 1 })), '{"a":1}');
  browser.gateway.answer = () => Promise.reject(new CallFailure(103, 'permission denied'));
  await assert.rejects(tabs[0]!.client.rpc('echo'), { code: 103, message: 'permission denied' });

  browser.gateway.calls = [];
  let release = (): void => {};
  browser.gateway.answer = () => new Promise((resolve) => (release = () => resolve({ op: 'rpc', data: new Uint8Array([7]) })));
  const asked = tabs.map(({ client }) => client.rpc('md.snapshot', { group: 'g00' }, { share: true }));
  await settle();
  release();
  assert.deepEqual((await Promise.all(asked)).map((data) => data[0]), [7, 7]);
  assert.equal(browser.gateway.calls.length, 1);
});

test('a call has a deadline, and fails when the worker dies under it', async () => {
  const { browser, tabs } = await browserWith(1);
  browser.gateway.answer = () => new Promise(() => {});
  const late = assert.rejects(tabs[0]!.client.rpc('slow', {}, { timeoutMs: 500 }), { code: 1 });
  await browser.clock.advance(600);
  await late;
  const cut = assert.rejects(tabs[0]!.client.rpc('slow'), { code: 2 });
  await settle();
  browser.crash();
  await cut;
});

test('a tab that does not keep up loses publications, and is told once it does again', () => {
  const posted: ToTab[] = [];
  const port = { post: (message: ToTab) => void posted.push(message), onmessage: null, onlost: null, close() {} };
  const hello = { tab: 'a', lock: null, visible: true, config: { token: false } };
  const tab = new HubTab(hello as never, port, 0);
  const publish = (channel: string): void => {
    tab.put({ channel, data: new Uint8Array() });
    tab.flush();
  };
  for (let index = 0; index < WINDOW; index += 1) publish('news');
  publish('news');
  publish('sport');
  assert.equal(posted.length, WINDOW);
  tab.acknowledged(WINDOW / 4);
  assert.equal(posted.length, WINDOW);
  tab.acknowledged(WINDOW);
  const told = posted.slice(WINDOW).map((message) => (message.t === 'channel' ? [message.channel, message.event.event] : []));
  assert.deepEqual(told, [['news', 'lost'], ['sport', 'lost']]);
  publish('news');
  assert.equal(posted.at(-1)?.t, 'batch');
});

test('a tab that sleeps does not hold up the others', async () => {
  const { browser, tabs } = await browserWith(2);
  const [slow, quick] = [listen(tabs[0]!, 'news'), listen(tabs[1]!, 'news')];
  await settle();
  tabs[0]!.alive = false;
  for (let index = 0; index < WINDOW * 2; index += 1) {
    browser.gateway.publish('news', `n${index}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await settle();
  assert.deepEqual([slow.data.length, quick.data.length], [0, WINDOW * 2]);
});

test('who joins late can be given the last publication', async () => {
  const { browser, tabs } = await browserWith(2);
  listen(tabs[0]!, 'flags', { last: true });
  await settle();
  browser.gateway.publish('flags', 'state');
  await settle();
  const sameTab = listen(tabs[0]!, 'flags', { last: true });
  const otherTab = listen(tabs[1]!, 'flags', { last: true });
  await settle();
  const stranger = listen(browser.tab('other'), 'flags');
  await settle();
  assert.deepEqual([sameTab.data, otherTab.data, stranger.data], [['state'], ['state'], []]);
  assert.ok(otherTab.events.includes('subscribed'));
});

test('who comes back with a position is given what the hub still has', async () => {
  const { browser, tabs } = await browserWith(2);
  listen(tabs[0]!, 'news', { recoverable: true });
  await settle();
  const [connection] = browser.gateway.connections;
  connection!.tell('news', { ...SUBSCRIBED, recoverable: true, position: { offset: 0, epoch: 'e' } } as ChannelEvent);
  for (let offset = 1; offset <= 5; offset += 1) connection!.publish('news', `n${offset}`, offset);
  await settle();
  const seen: unknown[] = [];
  const onSubscribed = ({ recovered }: { recovered: boolean }): void => void seen.push(recovered);
  const back = listen(tabs[1]!, 'news', { recoverable: true, since: { offset: 3, epoch: 'e' }, onSubscribed });
  await settle();
  assert.deepEqual(back.data, ['n4', 'n5']);
  assert.deepEqual(seen, [true]);

  const tab = browser.tab('other');
  const stranger = listen(tab, 'news', { recoverable: true, since: { offset: 3, epoch: 'gone' }, onSubscribed });
  await settle();
  assert.deepEqual(stranger.data, []);
  assert.deepEqual(seen, [true, false]);
});

test('a refused subscription is told, and tried again by the next subscriber', async () => {
  const { browser, tabs } = await browserWith(2);
  const heard = listen(tabs[0]!, 'secret');
  await settle();
  const [connection] = browser.gateway.connections;
  connection!.tell('secret', { event: 'unsubscribed', code: 103, reason: 'permission denied' });
  await settle();
  assert.deepEqual(heard.events, ['subscribed', 'unsubscribed']);
  listen(tabs[1]!, 'secret');
  await settle();
  assert.deepEqual(connection!.subscribed, ['secret', 'secret']);
});

test('the round trip is measured', async () => {
  const { browser, tabs } = await browserWith(1);
  await browser.clock.advance(10);
  assert.equal(tabs[0]!.client.state.get().latencyMs, 0);
});

test('what a listener throws harms nobody else', async () => {
  const { browser, tabs } = await browserWith(1);
  const thrown: unknown[] = [];
  globalThis.reportError = (error) => void thrown.push(error);
  tabs[0]!.client.subscribe('news', {
    onData: () => {
      throw new Error('mine');
    },
  });
  const heard = listen(tabs[0]!, 'news');
  await settle();
  browser.gateway.publish('news', 'one');
  await settle();
  assert.deepEqual(heard.data, ['one']);
  assert.deepEqual(thrown.map((error) => (error as Error).message), ['mine']);
});

test('a closed client says so and refuses calls', async () => {
  const { tabs } = await browserWith(1);
  const { client } = tabs[0]!;
  client.close();
  client.close();
  assert.deepEqual([client.state.get().state, client.state.get().reason], ['disconnected', 'closed']);
  await assert.rejects(client.rpc('echo'), { code: 3 });
});
