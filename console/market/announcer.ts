/** Words for those who listen: never more often than they can be heard, the last ones winning. */
export class Announcer {
  readonly #say: (words: string) => void;
  readonly #everyMs: number;
  #waiting: string | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(say: (words: string) => void, everyMs = 2_000) {
    this.#say = say;
    this.#everyMs = everyMs;
  }

  say(words: string) {
    if (this.#timer !== undefined) {
      this.#waiting = words;
      return;
    }
    this.#say(words);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const next = this.#waiting;
      this.#waiting = null;
      if (next !== null) this.say(next);
    }, this.#everyMs);
  }

  end() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#waiting = null;
  }
}
