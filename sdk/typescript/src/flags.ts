// Feature flags, as the gateway pushes them.

import type { Client } from './client.js';
import { decodeFeatureFlags } from './contracts.js';
import { Variable, type Observable } from './observable.js';

/** The flags as they stand. */
export interface Flags {
  /** Whether a flag is on for everybody, by its name. */
  flags: Readonly<Record<string, boolean>>;
  /** Percentages of flags that are on for a part of the users, by their names. */
  rollouts: Readonly<Record<string, number>>;
  /** Number of the state; 0 before the first one has arrived. */
  version: number;
}

export interface FlagSource extends Observable<Flags> {
  /** Whether a flag is on for this user; one that is not there is off. */
  on(name: string): boolean;
  close(): void;
}

/** Channel of the flags. */
export const CHANNEL = 'xy.flags';

export interface FlagOptions {
  /** The user's id, as the token names it: decides flags that are on for a part of the users. Default: empty. */
  user?: string;
  channel?: string;
}

/** Follows the feature flags. */
export function featureFlags(client: Pick<Client, 'subscribe'>, options: FlagOptions = {}): FlagSource {
  const { user = '', channel = CHANNEL } = options;
  const value = new Variable<Flags>({ flags: {}, rollouts: {}, version: 0 });
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
    on(name) {
      const { flags, rollouts } = value.get();
      return flags[name] === true || share(name, user) < own(rollouts, name);
    },
    close: () => subscription.unsubscribe(),
  };
}

function decoded(data: Uint8Array): Flags | null {
  try {
    const { flags, rollouts, version } = decodeFeatureFlags(data);
    return { flags, rollouts, version: Number(version) };
  } catch {
    return null;
  }
}

function own(rollouts: Readonly<Record<string, number>>, name: string): number {
  return Object.hasOwn(rollouts, name) ? (rollouts[name] ?? 0) : 0;
}

/**
 * The place of a user within a flag, from 0 to 99, as the contract `feature_flags.proto` defines it
 * for all languages.
 */
export function share(name: string, user: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(`${name}\n${user}`)) hash = Math.imul(hash ^ byte, 0x01000193);
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  hash ^= hash >>> 16;
  return Math.floor(((hash >>> 0) * 100) / 2 ** 32);
}
