// Time, as an argument: tests bring their own.

/** Ends a timer; harmless when it has fired. */
export type Cancel = () => void;

/** What tells the time and wakes up later. */
export interface Clock {
  /** Milliseconds since 1970-01-01 UTC. */
  now(): number;
  /** Calls `run` once after `ms` milliseconds. */
  after(ms: number, run: () => void): Cancel;
}

/** The clock of the browser. */
export const systemClock: Clock = {
  now: () => Date.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};

/** Calls `run` every `ms` milliseconds until cancelled. */
export function every(clock: Clock, ms: number, run: () => void): Cancel {
  let cancel: Cancel = () => {};
  const arm = (): void => {
    cancel = clock.after(ms, () => {
      arm();
      run();
    });
  };
  arm();
  return () => cancel();
}

/** Resolves after `ms` milliseconds. */
export function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => void clock.after(ms, resolve));
}
