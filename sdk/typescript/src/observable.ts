// Values that change, and whoever wants to hear of it.

/** A value that can be read at any time and tells its listeners when it changes. */
export interface Observable<T> {
  /** The value now. The same object until the next change. */
  get(): T;
  /**
   * Calls `listener` with every new value, not with the present one.
   * @returns ends it
   */
  subscribe(listener: (value: T) => void): () => void;
}

/** An {@link Observable} with its other end. */
export class Variable<T> implements Observable<T> {
  #value: T;
  readonly #listeners = new Set<(value: T) => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get = (): T => this.#value;

  subscribe = (listener: (value: T) => void): (() => void) => {
    const own = (value: T): void => listener(value);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  };

  /** Sets the value; listeners are called unless it is the same. */
  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const listener of [...this.#listeners]) guarded(() => listener(value));
  }
}

/** Runs code of the application: what it throws is reported as uncaught and stops nothing else. */
export function guarded(run: () => void): void {
  try {
    run();
  } catch (error) {
    reportError(error);
  }
}
