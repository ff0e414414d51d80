// Web Locks as a sign of life: whoever holds a lock is alive, and who waits for it learns of the death at once.

/** The part of `navigator.locks` that is used. */
export interface Locks {
  request(
    name: string,
    options: { mode?: 'exclusive' | 'shared'; signal?: AbortSignal },
    granted: () => Promise<unknown>,
  ): Promise<unknown>;
}

/** Lets go of a lock, or of the wait for it. */
export type Release = () => void;

/** The locks of this browser; `null` where there are none (old browsers, pages without a secure context). */
export function browserLocks(): Locks | null {
  const found = (globalThis.navigator as { locks?: Locks } | undefined)?.locks;
  return found ?? null;
}

/**
 * Takes a lock and keeps it until released or until this tab or worker ends.
 * @returns once it is held; `null` when the browser refuses
 */
export function hold(locks: Locks, name: string): Promise<Release | null> {
  return new Promise((resolve) => {
    const held = (): Promise<void> => new Promise((release) => resolve(() => release()));
    locks.request(name, {}, held).catch(() => resolve(null));
  });
}

/**
 * Calls `gone` once nobody holds the lock any more.
 * @returns stops waiting
 */
export function whenFree(locks: Locks, name: string, gone: () => void): Release {
  const stop = new AbortController();
  const granted = async (): Promise<void> => {
    if (!stop.signal.aborted) gone();
  };
  // Shared: of several that wait, each is told.
  locks.request(name, { mode: 'shared', signal: stop.signal }, granted).catch(() => {});
  return () => stop.abort();
}
