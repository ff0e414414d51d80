// The book equals what the aggregator has, whatever happens on the way.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { BUFFER, Stitcher, type Book, type Quote, type State, type Ticks } from '../src/market/stitcher.js';

/** The aggregator of one group. */
class Truth {
  seq = 0;
  tsMs = 1000;
  readonly quotes = new Map<string, Quote>();

  ticks(changes: [symbol: string, price: number, volume: number][]): Ticks {
    this.seq += 1;
    this.tsMs += 33;
    const ticks = changes.map(([symbol, price, volume]) => ({ symbol, price, volume, tsMs: this.tsMs }));
    for (const { symbol, price, volume, tsMs } of ticks) {
      const before = this.quotes.get(symbol);
      this.quotes.set(symbol, { ...quote(symbol), last: price, volume: (before?.volume ?? 0) + volume, tsMs });
    }
    return { seq: this.seq, tsMs: this.tsMs, ticks };
  }

  snapshot(): State {
    return { seq: this.seq, tsMs: this.tsMs, quotes: [...this.quotes.values()] };
  }

  /** Counts anew, later. */
  restart(): void {
    this.seq = 0;
    this.tsMs += 1000;
    this.quotes.clear();
  }
}

const quote = (symbol: string): Quote => ({ symbol, group: 'g', last: 0, volume: 0, bid: 0, ask: 0, bidSize: 0, askSize: 0, tsMs: 0 });

function stitched(): { stitcher: Stitcher; quotes: Map<string, Quote>; changed: string[] } {
  const quotes = new Map<string, Quote>();
  const changed: string[] = [];
  const book: Book = {
    get: (symbol) => quotes.get(symbol),
    set: (made) => (changed.push(made.symbol), void quotes.set(made.symbol, made)),
    delete: (symbol) => void quotes.delete(symbol),
  };
  return { stitcher: new Stitcher('g', book), quotes, changed };
}

const sorted = (quotes: Map<string, Quote>): Quote[] => [...quotes.values()].sort((a, b) => a.symbol.localeCompare(b.symbol));

test('ticks wait for the first snapshot, and those in it are not counted twice', () => {
  const truth = new Truth();
  const { stitcher, quotes } = stitched();
  const first = truth.ticks([['A', 1, 10]]);
  const second = truth.ticks([['A', 2, 10]]);
  const snapshot = truth.snapshot();
  const third = truth.ticks([['A', 3, 10]]);
  for (const batch of [first, second, third]) stitcher.ticks(batch);
  assert.equal(quotes.size, 0);
  assert.ok(stitcher.wantsSnapshot);
  stitcher.snapshot(snapshot);
  assert.deepEqual([quotes.get('A')?.last, quotes.get('A')?.volume], [3, 30]);
  assert.ok(!stitcher.wantsSnapshot);
});

test('a gap is counted once, holds the book, and is closed by a snapshot', () => {
  const truth = new Truth();
  const { stitcher, quotes } = stitched();
  stitcher.ticks(truth.ticks([['A', 1, 1]]));
  stitcher.snapshot(truth.snapshot());
  stitcher.ticks(truth.ticks([['A', 2, 1]]));
  truth.ticks([['A', 3, 1]]);
  stitcher.ticks(truth.ticks([['A', 4, 1]]));
  stitcher.ticks(truth.ticks([['A', 5, 1]]));
  assert.deepEqual([stitcher.gaps, stitcher.wantsSnapshot, quotes.get('A')?.last], [1, true, 2]);
  stitcher.snapshot(truth.snapshot());
  assert.deepEqual([stitcher.gaps, stitcher.wantsSnapshot, quotes.get('A')?.volume], [1, false, 5]);
});

test('a first snapshot that is too old for the ticks is no gap, but asks for another', () => {
  const truth = new Truth();
  const { stitcher } = stitched();
  truth.ticks([['A', 1, 1]]);
  const old = truth.snapshot();
  truth.ticks([['A', 2, 1]]);
  stitcher.ticks(truth.ticks([['A', 3, 1]]));
  stitcher.snapshot(old);
  assert.deepEqual([stitcher.gaps, stitcher.wantsSnapshot], [0, true]);
});

test('a snapshot that ticks have overtaken changes nothing', () => {
  const truth = new Truth();
  const { stitcher, quotes } = stitched();
  stitcher.ticks(truth.ticks([['A', 1, 1]]));
  const old = truth.snapshot();
  stitcher.snapshot(old);
  stitcher.ticks(truth.ticks([['A', 2, 1]]));
  stitcher.snapshot(old);
  assert.equal(quotes.get('A')?.last, 2);
});

test('a new life of the stream starts over', () => {
  const truth = new Truth();
  const { stitcher, quotes } = stitched();
  for (let index = 0; index < 5; index += 1) stitcher.ticks(truth.ticks([['OLD', index, 1]]));
  stitcher.snapshot(truth.snapshot());
  truth.restart();
  stitcher.ticks(truth.ticks([['NEW', 1, 1]]));
  assert.ok(stitcher.wantsSnapshot);
  stitcher.snapshot(truth.snapshot());
  assert.deepEqual(sorted(quotes), sorted(truth.quotes));
});

test('a snapshot without changes shows nothing anew, and takes away what is gone', () => {
  const truth = new Truth();
  const { stitcher, quotes, changed } = stitched();
  truth.ticks([['A', 1, 1], ['B', 1, 1]]);
  stitcher.snapshot(truth.snapshot());
  changed.length = 0;
  stitcher.snapshot(truth.snapshot());
  assert.deepEqual(changed, []);
  truth.quotes.delete('B');
  stitcher.snapshot(truth.snapshot());
  assert.deepEqual([...quotes.keys()], ['A']);
});

test('what waits is bounded', () => {
  const truth = new Truth();
  const { stitcher, quotes } = stitched();
  for (let index = 0; index < BUFFER * 3; index += 1) stitcher.ticks(truth.ticks([['A', index, 1]]));
  stitcher.snapshot(truth.snapshot());
  assert.equal(quotes.get('A')?.volume, BUFFER * 3);
});

const step = fc.oneof(
  { weight: 10, arbitrary: fc.record({ kind: fc.constant('ticks' as const), symbol: fc.constantFrom('A', 'B', 'C'), volume: fc.nat(9) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('snapshot' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const) }) },
);
/** What happens to a message: lost, doubled, delayed by some others. */
const fate = fc.record({ lost: fc.boolean(), doubled: fc.boolean(), delay: fc.nat(4) });

test('after any loss, doubling and reordering the book equals the truth with the next snapshot', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(step, fate), { maxLength: 80 }), (history) => {
      const truth = new Truth();
      const { stitcher, quotes } = stitched();
      const onTheWay: { at: number; deliver: () => void }[] = [];
      history.forEach(([what, { lost, doubled, delay }], index) => {
        if (what.kind === 'restart') return truth.restart();
        const deliver =
          what.kind === 'ticks'
            ? ((batch) => () => stitcher.ticks(batch))(truth.ticks([[what.symbol, index, what.volume]]))
            : ((state) => () => stitcher.snapshot(state))(truth.snapshot());
        if (lost) return;
        onTheWay.push({ at: index + delay, deliver });
        if (doubled) onTheWay.push({ at: index + delay + 2, deliver });
      });
      onTheWay.sort((a, b) => a.at - b.at);
      for (const { deliver } of onTheWay) deliver();
      // The way is good again: a snapshot, and ticks that follow it.
      truth.tsMs += 1;
      stitcher.snapshot(truth.snapshot());
      assert.deepEqual(sorted(quotes), sorted(truth.quotes));
      stitcher.ticks(truth.ticks([['A', -1, 5]]));
      stitcher.ticks(truth.ticks([['B', -2, 5]]));
      assert.deepEqual(sorted(quotes), sorted(truth.quotes));
      assert.ok(!stitcher.wantsSnapshot);
    }),
    { numRuns: 2000 },
  );
});

test('without restarts the book is at all times a state that the aggregator had', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(step, fate), { maxLength: 60 }), (history) => {
      const truth = new Truth();
      const shape = (given: Map<string, Quote>): string =>
        JSON.stringify(sorted(given).map(({ symbol, last, volume }) => [symbol, last, volume]));
      const states = new Set([shape(new Map())]);
      const { stitcher, quotes } = stitched();
      const onTheWay: { at: number; deliver: () => void }[] = [];
      history.forEach(([what, { lost, doubled, delay }], index) => {
        if (what.kind === 'restart') return;
        let deliver: () => void;
        if (what.kind === 'ticks') {
          const batch = truth.ticks([[what.symbol, index, what.volume]]);
          states.add(shape(truth.quotes));
          deliver = () => stitcher.ticks(batch);
        } else {
          const state = truth.snapshot();
          deliver = () => stitcher.snapshot(state);
        }
        if (!lost) onTheWay.push({ at: index + delay, deliver });
        if (!lost && doubled) onTheWay.push({ at: index + delay + 2, deliver });
      });
      onTheWay.sort((a, b) => a.at - b.at);
      for (const { deliver } of onTheWay) {
        deliver();
        assert.ok(states.has(shape(quotes)));
      }
    }),
    { numRuns: 1000 },
  );
});
