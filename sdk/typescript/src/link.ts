// Ways from a tab to the hub.

import type { Hub } from './hub.js';
import type { ToHub, ToTab } from './messages.js';
import type { Port } from './port.js';

/**
 * Where the connection of this browser is held.
 *
 * - `shared-worker`: in a SharedWorker; one connection per browser and identity.
 * - `leader`: in one of the tabs, elected by a Web Lock and reached by BroadcastChannel; one
 *   connection per browser and identity as well, which moves when that tab is closed.
 * - `own`: in this tab; one connection per tab. The last resort.
 */
export type Mode = 'shared-worker' | 'leader' | 'own';

export type HubPort = Port<ToHub, ToTab>;

export interface Link {
  readonly mode: Mode;
  /** A port to the hub of the moment. It may turn out that nobody is there. */
  attach(tab: string, signal: AbortSignal): Promise<HubPort>;
  /** The hub that was attached to is dead or mute: the next attach is to find another one. */
  failed(): void;
  close(): void;
}

/** Loads the code that a hub needs; only where the hub is to run in this page. */
export type LoadHub = () => Promise<Hub>;

/** What tabs with the same hub have in common; tabs of another user or address have another one. */
export function scopeOf(version: number, url: string, identity: string): string {
  return `tidegate/${version}/${identity}/${url}`;
}
