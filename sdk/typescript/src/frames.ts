// Work per animation frame, kept within a budget.

/**
 * How much is left out, mildest first.
 *
 * - `none`: every frame shows all that changed.
 * - `sampling`: every fourth frame shows all that changed.
 * - `trimming`: every fourth frame shows at most 50 of what changed, and of those only what matters most.
 * - `stopped`: nothing is shown.
 */
export type Degrade = 'none' | 'sampling' | 'trimming' | 'stopped';

export const LADDER: readonly Degrade[] = ['none', 'sampling', 'trimming', 'stopped'];

/** Frames that are looked at to judge. */
export const WINDOW = 30;
/** So many of them over budget are one step down. */
export const TOO_MANY = 5;
/** So long within budget (or stopped) is one step up, in milliseconds … */
export const RECOVERY_MS = 3000;
/** … and twice that each time a step up does not last so long, up to this. */
export const RECOVERY_MAX_MS = 24_000;
/** Frames per frame that shows, when sampling and trimming. */
export const SAMPLE = 4;
/** Keys that a frame shows when trimming. */
export const TRIM = 50;

/** Decides from the time that frames take. Pure: time is an argument, in milliseconds. */
export class Ladder {
  readonly #budgetMs: number;
  #level = 0;
  #frames: boolean[] = [];
  /** Since when it has been within budget at this level. */
  #since = 0;
  #steppedUp = Number.NEGATIVE_INFINITY;
  #recoveryMs = RECOVERY_MS;

  constructor(budgetMs: number) {
    this.#budgetMs = budgetMs;
  }

  get level(): Degrade {
    return LADDER[this.#level] ?? 'stopped';
  }

  /** A frame has taken `workMs`. */
  measured(workMs: number, now: number): void {
    const over = workMs > this.#budgetMs;
    this.#frames.push(over);
    if (this.#frames.length > WINDOW) this.#frames.shift();
    if (over) this.#since = now;
    if (this.#frames.filter(Boolean).length >= TOO_MANY) this.#down(now);
    else this.#up(now);
  }

  /** A frame has passed in which nothing was shown. */
  passed(now: number): void {
    if (this.level === 'stopped') this.#up(now);
  }

  #down(now: number): void {
    if (this.#level === LADDER.length - 1) return;
    const lasted = now - this.#steppedUp;
    if (lasted < this.#recoveryMs) this.#recoveryMs = Math.min(this.#recoveryMs * 2, RECOVERY_MAX_MS);
    this.#move(1, now);
  }

  #up(now: number): void {
    if (this.#level === 0) {
      if (now - this.#steppedUp > RECOVERY_MAX_MS) this.#recoveryMs = RECOVERY_MS;
      return;
    }
    if (now - this.#since < this.#recoveryMs) return;
    this.#steppedUp = now;
    this.#move(-1, now);
  }

  #move(by: number, now: number): void {
    this.#level += by;
    this.#frames = [];
    this.#since = now;
  }
}

/** Between frames of a screen that is looked at, in milliseconds. */
const FRAME_MS = 1000 / 60;

/** What comes with a frame. */
export interface FrameInfo {
  degrade: Degrade;
  /** With `trimming`, only what matters most of each value is to be shown. */
  trimmed: boolean;
}

export interface FrameOptions<K, V> {
  /** Shows what changed: per key the last value. The map is the receiver's. */
  onFrame(changed: Map<K, V>, info: FrameInfo): void;
  /** What a frame may take, in milliseconds. Default 8. */
  budgetMs?: number;
  /** Default: `requestAnimationFrame`. */
  schedule?: (frame: () => void) => void;
  /** Milliseconds of a clock that does not go back. Default: `performance.now`. */
  now?: () => number;
}

/** Collects values and shows them with the frames of the browser; of each key the last value wins. */
export class FrameBatcher<K, V> {
  readonly #options: FrameOptions<K, V>;
  readonly #now: () => number;
  readonly #schedule: (frame: () => void) => void;
  readonly #ladder: Ladder;
  readonly #times = new Percentile();
  #pending = new Map<K, V>();
  #work = 0;
  /** When that work began. */
  #since = 0;
  #skipped = 0;
  #scheduled = false;
  #closed = false;

  constructor(options: FrameOptions<K, V>) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#schedule = options.schedule ?? ((frame) => void requestAnimationFrame(frame));
    this.#ladder = new Ladder(options.budgetMs ?? 8);
  }

  get degrade(): Degrade {
    return this.#ladder.level;
  }

  /** 95th percentile of the work per frame, of the last 120 frames that showed something, in milliseconds. */
  get p95(): number {
    return this.#times.p95();
  }

  /** Shown with the next frame. */
  put(key: K, value: V): void {
    // A key keeps its place: trimming shows first what has waited longest.
    this.#pending.set(key, value);
    this.#wake();
  }

  drop(key: K): void {
    this.#pending.delete(key);
  }

  /**
   * Runs work that counts towards the next frame, such as decoding. Where frames are further apart
   * than those of a screen, as in the background, it counts for the part of one such frame.
   */
  counted<T>(work: () => T): T {
    const started = this.#now();
    if (this.#work === 0) this.#since = started;
    try {
      return work();
    } finally {
      this.#work += this.#now() - started;
    }
  }

  close(): void {
    this.#closed = true;
    this.#pending.clear();
  }

  #wake(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    this.#schedule(() => this.#frame());
  }

  #frame(): void {
    this.#scheduled = false;
    if (this.#closed) return;
    const { level } = this.#ladder;
    const shows = level === 'none' || (level !== 'stopped' && this.#skipped >= SAMPLE - 1);
    if (shows && this.#pending.size > 0) {
      this.#skipped = 0;
      this.#show(level);
    } else {
      this.#skipped += 1;
      this.#ladder.passed(this.#now());
    }
    this.#work = 0;
    if (this.#pending.size > 0) this.#wake();
  }

  #show(degrade: Degrade): void {
    const trimmed = degrade === 'trimming';
    const changed = trimmed ? this.#some(TRIM) : this.#pending;
    if (!trimmed) this.#pending = new Map();
    const started = this.#now();
    try {
      this.#options.onFrame(changed, { degrade, trimmed });
    } finally {
      const ended = this.#now();
      const took = ended - started + this.#work * Math.min(1, FRAME_MS / (started - this.#since));
      this.#times.add(took);
      this.#ladder.measured(took, ended);
    }
  }

  #some(count: number): Map<K, V> {
    const some = new Map<K, V>();
    for (const [key, value] of this.#pending) {
      if (some.size === count) break;
      some.set(key, value);
      this.#pending.delete(key);
    }
    return some;
  }
}

/** 95th percentile of the last values. */
export class Percentile {
  readonly #values: number[] = [];
  #next = 0;

  add(value: number): void {
    this.#values[this.#next] = value;
    this.#next = (this.#next + 1) % 120;
  }

  /** 0 without values. */
  p95(): number {
    const sorted = [...this.#values].sort((a, b) => a - b);
    return sorted[Math.ceil(sorted.length * 0.95) - 1] ?? 0;
  }
}
