// Feature flags, as the gateway pushes them.

import type { Client } from './client.js';
import { decodeFeatureFlags } from './contracts.js';
import { Variable, type Observable } from './observable.js';

/** The flags as they stand. */
export interface Flags {
  /** Whether a flag is on, by its name. */
  flags: Readonly<Record<string, boolean>>;
  /** Number of the state; 0 before the first one has arrived. */
  version: number;
}

export interface FlagSource extends Observable<Flags> {
  /** Whether a flag is on; one that is not there is off. */
  on(name: string): boolean;
  close(): void;
}

/** Channel of the flags. */
export const CHANNEL = 'xy.flags';

/** Follows the feature flags. */
export function featureFlags(client: Pick<Client, 'subscribe'>, channel = CHANNEL): FlagSource {
  const value = new Variable<Flags>({ flags: {}, version: 0 });
  // Numbers are compared within one subscription only: a gateway with a new store counts anew.
  let fresh = true;
  const subscription = client.subscribe(channel, {
    last: true,
    onSubscribed: () => (fresh = true),
    onData(publications) {
      for (const { data } of publications) {
        const flags = decoded(data);
        if (flags === null || (!fresh && flags.version < value.get().version)) continue;
        fresh = false;
        value.set(flags);
      }
    },
  });
  return {
    get: value.get,
    subscribe: value.subscribe,
    on: (name) => value.get().flags[name] === true,
    close: () => subscription.unsubscribe(),
  };
}

function decoded(data: Uint8Array): Flags | null {
  try {
    const { flags, version } = decodeFeatureFlags(data);
    return { flags, version: Number(version) };
  } catch {
    return null;
  }
}
