// Asking for a snapshot: one question at a time per group, with a deadline, less often after failures.

import type { Cancel, Clock } from '../clock.js';

/** How long an answer may take, in milliseconds. */
export const DEADLINE_MS = 3000;
/** The first wait after a snapshot was asked for in vain, in milliseconds; doubled each time … */
export const BACKOFF_MS = 100;
/** … up to this … */
export const BACKOFF_MAX_MS = 5000;
/** … and varied by up to this part, so that tabs and browsers do not ask in step. */
const JITTER = 0.2;

export interface RequestWorld {
  clock: Clock;
  /** From 0 to 1. */
  random(): number;
  /** Asks; an answer counts only if `wanted` then says no more. */
  ask(timeoutMs: number): Promise<void>;
  wanted(): boolean;
}

export class SnapshotRequests {
  readonly #world: RequestWorld;
  #asking = false;
  #failures = 0;
  #wait: Cancel | null = null;
  #closed = false;

  constructor(world: RequestWorld) {
    this.#world = world;
  }

  /** Asks if one is wanted and none is on its way. */
  check(): void {
    if (this.#closed || this.#asking || this.#wait !== null || !this.#world.wanted()) return;
    this.#asking = true;
    this.#world
      .ask(DEADLINE_MS)
      .catch(() => {})
      .then(() => this.#asked());
  }

  /** Circumstances have changed: asks without waiting. */
  hurry(): void {
    this.#failures = 0;
    this.#wait?.();
    this.#wait = null;
    this.check();
  }

  close(): void {
    this.#closed = true;
    this.#wait?.();
  }

  #asked(): void {
    this.#asking = false;
    if (this.#closed) return;
    if (!this.#world.wanted()) {
      this.#failures = 0;
      return;
    }
    const { clock, random } = this.#world;
    const wait = Math.min(BACKOFF_MS * 2 ** this.#failures, BACKOFF_MAX_MS);
    this.#failures += 1;
    this.#wait = clock.after(wait * (1 + JITTER * (2 * random() - 1)), () => {
      this.#wait = null;
      this.check();
    });
  }
}
