// Waiting for events with a deadline, in Node and in browsers.

const DEADLINE_MS = 10_000;

/** Fails loudly if `promise` does not settle in time; `context` adds to the message. */
export function within(milliseconds, what, promise, context = () => '') {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`not within ${milliseconds} ms: ${what}\n${context()}`)),
      milliseconds,
    );
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/**
 * Ends this process if it still runs a while after its last test: what a failed test left open
 * must not keep the whole suite waiting.
 */
export function endSoon() {
  const end = () => {
    console.error(`left open: ${process.getActiveResourcesInfo().join(', ')}`);
    process.exit(1);
  };
  setTimeout(end, DEADLINE_MS).unref();
}

/** Records the events of an emitter and hands them out in order. */
export class Events {
  #seen = [];
  #waiting = [];

  constructor(emitter, names) {
    for (const name of names) {
      emitter.on(name, (context) => {
        this.#seen.push({ name, context, taken: false });
        this.#settle();
      });
    }
  }

  /** The first event of this name, not taken before, that `accepts` holds for. */
  next(name, accepts = () => true) {
    const found = new Promise((resolve) => {
      this.#waiting.push({ name, accepts, resolve });
      this.#settle();
    });
    return within(DEADLINE_MS, `event ${name}`, found, () => `seen: ${this.#story()}`);
  }

  /** Every event of this name so far, taken or not. */
  all(name) {
    return this.#seen.filter((event) => event.name === name).map((event) => event.context);
  }

  #settle() {
    this.#waiting = this.#waiting.filter(({ name, accepts, resolve }) => {
      const event = this.#seen.find(
        (event) => !event.taken && event.name === name && accepts(event.context),
      );
      if (event === undefined) return true;
      event.taken = true;
      resolve(event.context);
      return false;
    });
  }

  #story() {
    return this.#seen
      .slice(-30)
      .map(({ name, context }) => `${name}(${context?.code ?? context?.error?.message ?? ''})`)
      .join(' ');
  }
}

export function ok(condition, what) {
  if (!condition) throw new Error(`expected ${what}`);
}

export function equal(actual, expected, what) {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: ${a} instead of ${b}`);
}

/** The code a promise is rejected with. */
export async function refusal(promise) {
  try {
    await promise;
  } catch (error) {
    return error.code;
  }
  throw new Error('expected a refusal');
}
