// One group of symbols: a snapshot, and the ticks that follow it.

/** What is known of one symbol. A new object with every change. */
export interface Quote {
  readonly symbol: string;
  readonly group: string;
  readonly last: number;
  /** All that was traded since the aggregator counts. */
  readonly volume: number;
  readonly bid: number;
  readonly ask: number;
  readonly bidSize: number;
  readonly askSize: number;
  /** Time of the last change, in milliseconds since 1970-01-01 UTC. */
  readonly tsMs: number;
}

/** Ticks of one group within one interval. */
export interface Ticks {
  seq: number;
  tsMs: number;
  ticks: { symbol: string; price: number; volume: number; tsMs: number }[];
}

/** State of one group, with all batches of ticks up to `seq` in it. */
export interface State {
  seq: number;
  tsMs: number;
  quotes: Quote[];
}

/** Where quotes go. */
export interface Book {
  get(symbol: string): Quote | undefined;
  set(quote: Quote): void;
  delete(symbol: string): void;
}

/** Batches that wait for a snapshot; beyond, the oldest are left to the snapshot. About 8 s of ticks. */
export const BUFFER = 256;

/**
 * Joins snapshots and ticks so that the book is always a state that the aggregator had.
 *
 * Batches of ticks count up by one. A snapshot says up to which one it goes; what follows it is
 * applied, what it contains is not. Where one is missing the book stays as it is until a snapshot
 * leads past the gap. A number that falls back although its time is later is a new life of the
 * stream: everything starts over.
 */
export class Stitcher {
  readonly #group: string;
  readonly #book: Book;
  readonly #symbols = new Set<string>();
  /** Number of the last batch that is in the book; `null` before the first snapshot. */
  #seq: number | null = null;
  /** The furthest that was seen, applied or not. */
  #seen: { seq: number; tsMs: number } | null = null;
  #buffer = new Map<number, Ticks>();
  #wanting = true;
  /** Whether a batch of ticks was heard that a snapshot contains or that follows one. */
  #joined = false;
  #gaps = 0;

  constructor(group: string, book: Book) {
    this.#group = group;
    this.#book = book;
  }

  /** Whether a snapshot is needed to go on. */
  get wantsSnapshot(): boolean {
    return this.#wanting;
  }

  /** How often batches were missing. */
  get gaps(): number {
    return this.#gaps;
  }

  get seq(): number | null {
    return this.#seq;
  }

  ticks(batch: Ticks): void {
    if (this.#isNewLife(batch)) this.#reset();
    this.#see(batch);
    if (this.#seq !== null && batch.seq <= this.#seq) return void (this.#joined = true);
    this.#buffer.set(batch.seq, batch);
    this.#drain();
    if (this.#buffer.size <= BUFFER) return;
    this.#buffer.delete(Math.min(...this.#buffer.keys()));
  }

  snapshot(state: State): void {
    if (this.#isNewLife(state)) this.#reset();
    // One that was overtaken by ticks.
    else if (this.#seq !== null && state.seq < this.#seq) return;
    this.#see(state);
    this.#replace(state.quotes);
    this.#seq = state.seq;
    this.#wanting = false;
    for (const seq of [...this.#buffer.keys()]) if (seq <= state.seq) this.#joined = this.#buffer.delete(seq);
    this.#drain();
  }

  /** Something may be missing without a later batch to show it. */
  lost(): void {
    this.#wanting = true;
  }

  /** Takes the group out of the book. */
  clear(): void {
    this.#reset();
    for (const symbol of this.#symbols) this.#book.delete(symbol);
    this.#symbols.clear();
  }

  #isNewLife({ seq, tsMs }: { seq: number; tsMs: number }): boolean {
    return this.#seen !== null && seq < this.#seen.seq && tsMs > this.#seen.tsMs;
  }

  #see({ seq, tsMs }: { seq: number; tsMs: number }): void {
    if (this.#seen === null) this.#seen = { seq, tsMs };
    else this.#seen = { seq: Math.max(seq, this.#seen.seq), tsMs: Math.max(tsMs, this.#seen.tsMs) };
  }

  #reset(): void {
    this.#seq = null;
    this.#seen = null;
    this.#joined = false;
    this.#buffer.clear();
    this.#wanting = true;
    this.#joined = false;
  }

  /** Applies what follows without a gap. */
  #drain(): void {
    if (this.#seq === null) return;
    for (let next = this.#buffer.get(this.#seq + 1); next !== undefined; next = this.#buffer.get(this.#seq + 1)) {
      this.#buffer.delete(next.seq);
      this.#seq = next.seq;
      this.#joined = true;
      for (const tick of next.ticks) this.#apply(tick);
    }
    if (this.#buffer.size === 0 || this.#wanting) return;
    // A first snapshot that is older than the first batch, as a tab gets it that comes later, is no loss.
    if (this.#joined) this.#gaps += 1;
    this.#wanting = true;
  }

  #apply({ symbol, price, volume, tsMs }: Ticks['ticks'][number]): void {
    this.#symbols.add(symbol);
    const before = this.#book.get(symbol) ?? { ...NOTHING, symbol, group: this.#group };
    this.#book.set({ ...before, last: price, volume: before.volume + volume, tsMs });
  }

  #replace(quotes: Quote[]): void {
    const gone = new Set(this.#symbols);
    for (const quote of quotes) {
      gone.delete(quote.symbol);
      this.#symbols.add(quote.symbol);
      const before = this.#book.get(quote.symbol);
      if (before === undefined || !equal(before, quote)) this.#book.set(quote);
    }
    for (const symbol of gone) {
      this.#symbols.delete(symbol);
      this.#book.delete(symbol);
    }
  }
}

const NOTHING = { last: 0, volume: 0, bid: 0, ask: 0, bidSize: 0, askSize: 0, tsMs: 0 };

function equal(a: Quote, b: Quote): boolean {
  return (
    a.last === b.last &&
    a.volume === b.volume &&
    a.bid === b.bid &&
    a.ask === b.ask &&
    a.bidSize === b.bidSize &&
    a.askSize === b.askSize &&
    a.tsMs === b.tsMs &&
    a.group === b.group
  );
}
