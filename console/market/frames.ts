/** The last durations of something, and how long it took at worst but for one in twenty. */
export class Durations {
  readonly #kept: Float64Array;
  #next = 0;
  #count = 0;

  constructor(size = 600) {
    this.#kept = new Float64Array(size);
  }

  add(ms: number) {
    this.#kept[this.#next] = ms;
    this.#next = (this.#next + 1) % this.#kept.length;
    this.#count = Math.min(this.#count + 1, this.#kept.length);
  }

  /** The quantile `share` (0 to 1) of what is kept; 0 of nothing. */
  quantile(share: number): number {
    if (this.#count === 0) return 0;
    const sorted = this.#kept.slice(0, this.#count).sort();
    return sorted[Math.max(0, Math.ceil(share * this.#count) - 1)] ?? 0;
  }
}
