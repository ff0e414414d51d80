// Market data: groups of symbols as one book, shown with the frames of the browser.

import type { Client, Subscription } from './client.js';
import { every, systemClock, type Clock } from './clock.js';
import { decodeSnapshotBatch, decodeTickBatch, type SnapshotBatch, type TickBatch } from './contracts.js';
import { FrameBatcher, type Degrade, type FrameInfo } from './frames.js';
import { SnapshotRequests } from './market/requests.js';
import { Stitcher, type Book, type Quote, type State, type Ticks } from './market/stitcher.js';
import type { Publication } from './messages.js';
import { Variable, type Observable } from './observable.js';

export { FrameBatcher, Ladder } from './frames.js';
export type { Degrade, FrameInfo, FrameOptions } from './frames.js';
export { Stitcher } from './market/stitcher.js';
export type { Book, Quote, State, Ticks } from './market/stitcher.js';
export * from './contracts.js';

export interface MarketOptions {
  /** Groups to follow, `g00` and so on. */
  groups: string[];
  /**
   * Shows what changed since the last call; called with an animation frame, so not while the tab is hidden.
   * `removed` are symbols that are traded no more.
   */
  onFrame?(changed: Map<string, Quote>, info: MarketFrame): void;
  /** What a frame may take, in milliseconds. Default 8. */
  budgetMs?: number;
  /** Symbols in the book; more are left out and counted in {@link MarketStats.invalid}. Default 50,000. */
  maxSymbols?: number;
  /** Start of the names of the channels. Default `xy.md`. */
  prefix?: string;
  /** For tests. */
  world?: Partial<MarketWorld>;
}

export interface MarketFrame extends FrameInfo {
  removed: string[];
}

export interface MarketStats {
  /** Age of the oldest group's last snapshot, in milliseconds; `null` while one has none. */
  snapshotAgeMs: number | null;
  /** From the close of the last batch of ticks at the aggregator to its arrival in this tab, in milliseconds,
   * by the clocks of both; `null` before the first one. */
  latencyMs: number | null;
  /** 95th percentile of the work per frame: decoding, stitching and `onFrame`, in milliseconds. */
  frameMs: number;
  /** How often batches were missing. */
  gaps: number;
  /** Number of the last batch of ticks that is in the book, by group; `null` before its first snapshot. */
  seqs: Record<string, number | null>;
  /** How often a snapshot was asked for. */
  requests: number;
  degrade: Degrade;
  /** Whether a group has not been heard of for a second. */
  stale: boolean;
  /** Messages that could not be read, and symbols beyond `maxSymbols`. */
  invalid: number;
  symbols: number;
  /** Changes of symbols per second, over the last second. */
  updatesPerSecond: number;
}

export interface MarketBook {
  /** All that is known, by symbol: a state that the aggregator had, group by group. */
  readonly quotes: ReadonlyMap<string, Quote>;
  /** Renewed four times per second. */
  readonly stats: Observable<MarketStats>;
  close(): void;
}

/** What the book needs of the world. */
export interface MarketWorld {
  clock: Clock;
  random(): number;
  /** See {@link FrameBatcher}. */
  schedule(frame: () => void): void;
  frameNow(): number;
}

/** Silence after which a group counts as stale, in milliseconds. */
export const STALE_MS = 1000;
const STATS_MS = 250;
const SNAPSHOT_METHOD = 'md.snapshot';

/** Follows groups of symbols. */
export function market(client: Pick<Client, 'subscribe' | 'rpc'>, options: MarketOptions): MarketBook {
  return new Market(client, options);
}

interface Group {
  name: string;
  stitcher: Stitcher;
  requests: SnapshotRequests;
  subscriptions: Subscription[];
  heardMs: number;
  snapshotMs: number | null;
  /** Whether ticks come. */
  subscribed: boolean;
}

class Market implements MarketBook {
  readonly quotes = new Map<string, Quote>();
  readonly stats: Variable<MarketStats>;
  readonly #client: Pick<Client, 'subscribe' | 'rpc'>;
  readonly #clock: Clock;
  readonly #frames: FrameBatcher<string, Quote>;
  readonly #groups = new Map<string, Group>();
  readonly #ends: (() => void)[] = [];
  #removed = new Set<string>();
  #latencyMs: number | null = null;
  #invalid = 0;
  #requests = 0;
  #updates = 0;
  readonly #rates: number[] = [];

  constructor(client: Pick<Client, 'subscribe' | 'rpc'>, options: MarketOptions) {
    const { world = {}, onFrame, maxSymbols = 50_000, prefix = 'xy.md' } = options;
    this.#client = client;
    this.#clock = world.clock ?? systemClock;
    this.#frames = new FrameBatcher<string, Quote>({
      budgetMs: options.budgetMs,
      schedule: world.schedule,
      now: world.frameNow,
      onFrame: (changed, info) => {
        const removed = [...this.#removed];
        this.#removed.clear();
        onFrame?.(changed, { ...info, removed });
      },
    });
    this.stats = new Variable(this.#measure());
    const book = this.#book(maxSymbols);
    for (const name of new Set(options.groups)) this.#groups.set(name, this.#follow(name, prefix, book, world));
    this.#ends.push(every(this.#clock, STATS_MS, () => this.stats.set(this.#measure())));
  }

  close(): void {
    for (const end of this.#ends) end();
    for (const group of this.#groups.values()) {
      group.requests.close();
      for (const subscription of group.subscriptions) subscription.unsubscribe();
    }
    this.#frames.close();
  }

  #book(maxSymbols: number): Book {
    return {
      get: (symbol) => this.quotes.get(symbol),
      set: (quote) => {
        if (this.quotes.size >= maxSymbols && !this.quotes.has(quote.symbol)) return void (this.#invalid += 1);
        this.#updates += 1;
        this.quotes.set(quote.symbol, quote);
        this.#removed.delete(quote.symbol);
        this.#frames.put(quote.symbol, quote);
      },
      delete: (symbol) => {
        if (!this.quotes.delete(symbol)) return;
        this.#frames.drop(symbol);
        this.#removed.add(symbol);
      },
    };
  }

  #follow(name: string, prefix: string, book: Book, world: Partial<MarketWorld>): Group {
    const stitcher = new Stitcher(name, book);
    const requests = new SnapshotRequests({
      clock: this.#clock,
      random: world.random ?? Math.random,
      // Not before it is subscribed to: what is asked for earlier may be too old to join the first ticks.
      wanted: () => stitcher.wantsSnapshot && group.subscribed,
      ask: (timeoutMs) => this.#ask(group, timeoutMs),
    });
    const group: Group = { name, stitcher, requests, subscriptions: [], heardMs: this.#clock.now(), snapshotMs: null, subscribed: false };
    const ticks = this.#client.subscribe(`${prefix}.tick.${name}`, {
      onData: (publications) => this.#heard(group, publications, (data) => this.#ticks(group, data)),
      onSubscribed({ recovered }) {
        group.subscribed = true;
        // What came while nobody was subscribed is missing, unless the gateway has made up for it.
        if (!recovered) stitcher.lost();
        requests.hurry();
      },
      onSubscribing: () => void (group.subscribed = false),
      onUnsubscribed: () => void (group.subscribed = false),
      onLost() {
        stitcher.lost();
        requests.check();
      },
    });
    const snapshots = this.#client.subscribe(`${prefix}.snapshot.${name}`, {
      last: true,
      onData: (publications) => this.#heard(group, publications, (data) => this.#snapshot(group, data)),
    });
    group.subscriptions.push(ticks, snapshots);
    return group;
  }

  #heard(group: Group, publications: Publication[], take: (data: Uint8Array) => void): void {
    group.heardMs = this.#clock.now();
    this.#frames.counted(() => {
      for (const { data } of publications) {
        try {
          take(data);
        } catch {
          this.#invalid += 1;
        }
      }
    });
    group.requests.check();
  }

  #ticks(group: Group, data: Uint8Array): void {
    const ticks = plainTicks(decodeTickBatch(data));
    this.#latencyMs = Math.max(0, group.heardMs - ticks.tsMs);
    group.stitcher.ticks(ticks);
  }

  #snapshot(group: Group, data: Uint8Array): void {
    const batch = decodeSnapshotBatch(data);
    if (batch.group !== group.name) throw new TypeError(`snapshot of "${batch.group}" for "${group.name}"`);
    const state = plainState(batch);
    group.stitcher.snapshot(state);
    group.snapshotMs = Math.max(group.snapshotMs ?? 0, state.tsMs);
  }

  async #ask(group: Group, timeoutMs: number): Promise<void> {
    this.#requests += 1;
    const data = await this.#client.rpc(SNAPSHOT_METHOD, { group: group.name }, { timeoutMs, share: true });
    this.#heard(group, [{ channel: SNAPSHOT_METHOD, data }], (bytes) => this.#snapshot(group, bytes));
  }

  #measure(): MarketStats {
    const now = this.#clock.now();
    const groups = [...this.#groups.values()];
    const snapshots = groups.map((group) => group.snapshotMs);
    const oldest = snapshots.includes(null) || snapshots.length === 0 ? null : Math.min(...(snapshots as number[]));
    this.#rates.push(this.#updates);
    if (this.#rates.length > 1000 / STATS_MS) this.#rates.shift();
    this.#updates = 0;
    return {
      snapshotAgeMs: oldest === null ? null : Math.max(0, now - oldest),
      latencyMs: this.#latencyMs,
      frameMs: this.#frames.p95,
      gaps: groups.reduce((sum, group) => sum + group.stitcher.gaps, 0),
      seqs: Object.fromEntries(groups.map((group) => [group.name, group.stitcher.seq])),
      requests: this.#requests,
      degrade: this.#frames.degrade,
      stale: groups.some((group) => now - group.heardMs > STALE_MS),
      invalid: this.#invalid,
      symbols: this.quotes.size,
      updatesPerSecond: this.#rates.reduce((sum, rate) => sum + rate, 0),
    };
  }
}

/** 64-bit numbers become plain ones: exact up to 2^53, which these counts and times do not reach. */
function plainTicks(batch: TickBatch): Ticks {
  const ticks = batch.ticks.map((tick) => ({
    symbol: tick.symbol,
    price: tick.price,
    volume: Number(tick.volume),
    tsMs: Number(tick.tsMs),
  }));
  return { seq: Number(batch.seq), tsMs: Number(batch.tsMs), ticks };
}

function plainState(batch: SnapshotBatch): State {
  const quotes = batch.snapshots.map((snapshot) => ({
    symbol: snapshot.symbol,
    group: batch.group,
    last: snapshot.last,
    volume: Number(snapshot.volume),
    bid: snapshot.bid,
    ask: snapshot.ask,
    bidSize: Number(snapshot.bidSize),
    askSize: Number(snapshot.askSize),
    tsMs: Number(snapshot.tsMs),
  }));
  return { seq: Number(batch.seq), tsMs: Number(batch.tsMs), quotes };
}
