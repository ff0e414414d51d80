// A page that checks the book of `@tidegate/client` against what the aggregator says it should be.
//
// It listens to the same channels as the book. After each batch of ticks it notes what the book has
// come to; when a snapshot says what the state was after that batch, the two must be equal. A batch
// that is missing, applied twice or applied to the wrong state shows as a difference in volume.

import { Unauthorized, connect } from '/client/index.js';
import { decodeSnapshotBatch, decodeTickBatch, market } from '/client/market.js';

const GROUPS = Array.from({ length: 10 }, (_, index) => `g0${index}`);
/** Batches that are remembered; snapshots come every hundred or so. */
const REMEMBERED = 400;

const parameters = new URLSearchParams(location.search);
const client = connect({
  url: parameters.get('url'),
  workerUrl: new URL('/client/worker.js', location.href),
  identity: 'prober',
  getToken: async () => {
    const token = await globalThis.mint();
    if (token === null) throw new Error('no token for now');
    if (token === '') throw new Unauthorized('no token for good');
    return token;
  },
});
const book = market(client, { groups: GROUPS, onFrame: () => {} });

/** What the tests ask for. */
const probe = {
  /** States of the connection, in the order in which they came. */
  states: [],
  /** Snapshots that the book agreed with. */
  agreed: 0,
  /** Snapshots that it did not agree with. */
  differences: [],
  /** The longest time between two batches of one group that changed the book, in milliseconds. */
  silenceMs: 0,
  /** When the book was fresh for the first time after `probe.since`, both by `Date.now()`. */
  since: Infinity,
  freshAt: null,
  /** Begins to measure anew: the recovery from what happens at `since`. */
  mark(since) {
    Object.assign(probe, { since, freshAt: null, agreed: 0, silenceMs: 0 });
  },
  report() {
    const { state, connections, tabs, mode } = client.state.get();
    const { agreed, differences, silenceMs, freshAt, states } = probe;
    const { gaps, requests } = book.stats.get();
    const quietMs = Date.now() - Math.max(...[...groups.values()].map(({ at }) => at));
    return { quietMs, state, connections, tabs, mode, gaps, requests, agreed, differences, silenceMs, freshAt, states, quotes: book.quotes.size };
  },
};
globalThis.probe = probe;
client.state.subscribe(({ state }) => {
  if (probe.states.at(-1) !== state) probe.states.push(state);
});

const groups = new Map(GROUPS.map((name) => [name, { past: new Map(), updated: 0, at: 0 }]));
for (const name of GROUPS) {
  const group = groups.get(name);
  // Subscribed after the book, so called after it: what it has by then is what counts.
  client.subscribe(`xy.md.tick.${name}`, {
    onData: (publications) => {
      const last = decodeTickBatch(publications.at(-1).data);
      note(group, name, Number(last.seq));
    },
  });
  client.subscribe(`xy.md.snapshot.${name}`, {
    onData: (publications) => {
      for (const { data } of publications) compare(group, name, decodeSnapshotBatch(data));
    },
  });
}

/** What the book has come to with this batch. */
function note(group, name, seq) {
  const quotes = ofGroup(name);
  const updated = Math.max(0, ...quotes.map(({ tsMs }) => tsMs));
  if (updated === group.updated) return;
  const now = Date.now();
  if (group.at > 0) probe.silenceMs = Math.max(probe.silenceMs, now - group.at);
  Object.assign(group, { updated, at: now });
  group.past.set(seq, { updated, volume: quotes.reduce((sum, { volume }) => sum + volume, 0) });
  if (group.past.size > REMEMBERED) group.past.delete(group.past.keys().next().value);
  if (probe.freshAt === null && [...groups.values()].every((each) => each.updated > probe.since)) probe.freshAt = now;
}

/** Whether the book had what the aggregator had. */
function compare(group, name, { seq, snapshots }) {
  const then = group.past.get(Number(seq));
  const updated = Math.max(0, ...snapshots.map(({ tsMs }) => Number(tsMs)));
  // Of another life of the stream, or of a batch that changed nothing here.
  if (then === undefined || then.updated !== updated) return;
  const volume = snapshots.reduce((sum, each) => sum + Number(each.volume), 0);
  if (volume === then.volume) probe.agreed += 1;
  else probe.differences.push({ name, seq: Number(seq), has: then.volume, should: volume, at: Date.now() });
}

function ofGroup(name) {
  return [...book.quotes.values()].filter(({ group }) => group === name);
}
