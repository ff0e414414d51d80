/** From the client package to the screen: what changed goes to the board, figures to whoever listens. */

import { type Client, connect } from '@tidegate/client';
import { type MarketBook, market, type Quote } from '@tidegate/client/market';

import type { Board } from './board';
import { Durations } from './frames';
import { demoToken } from './token';

/** The figures of the screen. */
export interface State {
  state: 'connecting' | 'connected' | 'disconnected';
  reason: string | undefined;
  connections: number;
  tabs: number;
  mode: string;
  /** Round trip to the gateway, in milliseconds. */
  latencyMs: number | undefined;
  /** From the close of a batch at the aggregator to this tab, in milliseconds, by the clocks of both. */
  dataLatencyMs: number | undefined;
  /** Age of the oldest group's snapshot, in milliseconds. */
  snapshotAgeMs: number;
  /** Work of a frame, layout and paint included, at the 95th percentile, in milliseconds. */
  frameP95Ms: number;
  updatesPerSecond: number;
  /** How often batches were missing, and how often a snapshot was asked for. */
  gaps: number;
  requests: number;
  /** Number of the last batch that is shown, by group. */
  seqs: Record<string, number | null>;
  degrade: string;
  stale: boolean;
  symbols: number;
  paused: boolean;
}

const EVERY_MS = 250;
/** The gateway does not accept the token, or not for the user of the connection. */
const INVALID_TOKEN = 3500;
/** Between new tokens for ones that were not accepted. */
const ANEW_MS = 10_000;

export class Feed {
  readonly #groups: string[];
  readonly #listeners = new Set<() => void>();
  readonly #frames = new Durations();
  #state: State = NOTHING;
  #client: Client | undefined;
  #book: MarketBook | undefined;
  #board: Board | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #paused = false;
  #anewAt = Number.NEGATIVE_INFINITY;
  #anew: ReturnType<typeof setTimeout> | undefined;
  readonly #ends: (() => void)[] = [];

  constructor(groups: string[]) {
    this.#groups = groups;
  }

  /** Connects, and shows what comes on `board`. */
  start(board: Board) {
    const url = new URL('/connection/websocket', location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    const client = connect({
      url: url.href,
      workerUrl: new URL(`${import.meta.env.BASE_URL}worker.js`, location.href),
      getToken: demoToken,
      // One name for all tabs: whom the token names is the gateway's choice.
      identity: 'demo',
      name: 'market',
    });
    this.#client = client;
    this.#board = board;
    this.#ends.push(
      client.state.subscribe(({ state, code }) => {
        // A gateway that can't renew a token of its demo gives one for somebody else, and a connection keeps its user.
        if (state !== 'disconnected' || code !== INVALID_TOKEN) return;
        clearTimeout(this.#anew);
        this.#anew = setTimeout(() => {
          this.#anewAt = performance.now();
          client.reconnect();
        }, Math.max(0, this.#anewAt + ANEW_MS - performance.now()));
      }),
    );
    this.#book = market(client, {
      groups: this.#groups,
      world: { schedule: everyOther() },
      onFrame: (changed, { removed }) => {
        if (this.#paused) return;
        const began = performance.now();
        board.apply(changed, began);
        for (const symbol of removed) board.remove(symbol);
        // A page that is not seen is not painted, and told late.
        if (document.visibilityState === 'visible') afterPaint(() => this.#frames.add(performance.now() - began));
      },
    });
    this.#timer = setInterval(() => {
      // Lights go out and lines go on although nothing comes.
      if (!this.#paused && document.visibilityState === 'visible') board.tick(performance.now());
      this.#measure();
    }, EVERY_MS);
  }

  /** Tries again after the gateway has sent this browser away. */
  reconnect() {
    this.#client?.reconnect();
  }

  stop() {
    clearInterval(this.#timer);
    clearTimeout(this.#anew);
    for (const end of this.#ends.splice(0)) end();
    this.#book?.close();
    this.#client?.close();
    this.#board = undefined;
  }

  /** Leaves the screen as it is; what comes meanwhile is shown when it goes on. */
  pause(paused: boolean) {
    this.#paused = paused;
    if (!paused && this.#book) this.#board?.apply(this.#book.quotes as Map<string, Quote>, performance.now());
    this.#measure();
  }

  listen = (changed: () => void) => {
    this.#listeners.add(changed);
    return () => void this.#listeners.delete(changed);
  };

  state = (): State => this.#state;

  #measure() {
    if (!this.#client || !this.#book) return;
    const { state, reason, connections, tabs, mode, latencyMs } = this.#client.state.get();
    const stats = this.#book.stats.get();
    this.#state = {
      state,
      reason,
      connections,
      tabs,
      mode,
      latencyMs,
      dataLatencyMs: stats.latencyMs ?? undefined,
      snapshotAgeMs: stats.snapshotAgeMs ?? 0,
      frameP95Ms: this.#frames.quantile(0.95),
      updatesPerSecond: stats.updatesPerSecond,
      gaps: stats.gaps,
      requests: stats.requests,
      seqs: stats.seqs,
      degrade: stats.degrade,
      stale: stats.stale,
      symbols: stats.symbols,
      paused: this.#paused,
    };
    for (const listener of [...this.#listeners]) listener();
  }
}

const NOTHING: State = {
  state: 'connecting', reason: undefined, connections: 0, tabs: 0, mode: '', latencyMs: undefined, dataLatencyMs: undefined,
  snapshotAgeMs: 0, frameP95Ms: 0, updatesPerSecond: 0, gaps: 0, requests: 0, seqs: {}, degrade: 'none', stale: false, symbols: 0, paused: false,
};

/**
 * Frames at least so far apart, in milliseconds: every other one of most screens. Batches come every
 * 33 ms, and whoever draws more often only draws.
 */
const APART_MS = 28;
/** A timer may be late by about so much. */
const EARLY_MS = 6;

function everyOther(): (frame: () => void) => void {
  let last = 0;
  return (frame) => {
    const draw = () =>
      requestAnimationFrame(() => {
        last = performance.now();
        frame();
      });
    const wait = last + APART_MS - EARLY_MS - performance.now();
    if (wait > 0) setTimeout(draw, wait);
    else draw();
  };
}

/** Called after the frame that is being made is laid out and painted. */
function afterPaint(done: () => void) {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    done();
  };
  port2.postMessage(null);
}
