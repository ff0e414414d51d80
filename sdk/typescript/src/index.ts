// Live data from a Tidegate gateway: one connection per browser, shared by all tabs.

import { Client, type ClientWorld, type ConnectOptions } from './client.js';
import { systemClock } from './clock.js';
import { LeaderLink } from './link/leader.js';
import { OwnLink } from './link/own.js';
import { SharedWorkerLink } from './link/shared-worker.js';
import type { Link, LoadHub, Mode } from './link.js';
import { browserLocks } from './locks.js';
import { unique } from './unique.js';

export { Client } from './client.js';
export type {
  CallOptions,
  ChannelHandlers,
  ConnectionState,
  ConnectOptions,
  History,
  HistoryOptions,
  SubscribeOptions,
  Subscription,
} from './client.js';
export type { Mode } from './link.js';
export type { ChannelEvent, Publication, StreamPosition, TokenContext } from './messages.js';
export type { Observable } from './observable.js';
export { CallFailure, CODES, Unauthorized } from './upstream.js';

/**
 * Connects this tab to the connection that its browser has with the gateway, or makes the browser
 * have one. Returns at once; {@link Client.state} tells how it goes.
 *
 * @throws {TypeError} for an address that is none
 */
export function connect(options: ConnectOptions): Client {
  return new Client(options, browserWorld(options));
}

const loadHub: LoadHub = async () => (await import('./hub/world.js')).browserHub();

function browserWorld(options: ConnectOptions): ClientWorld {
  const locks = browserLocks();
  return {
    clock: systemClock,
    locks,
    unique,
    modes: available(options.mode ?? 'auto', locks !== null),
    link: (mode, scope) => link(mode, scope, options),
    visible: () => globalThis.document?.visibilityState !== 'hidden',
    onPage(told) {
      const { document } = globalThis;
      if (document === undefined) return () => {};
      const changed = (): void => told('visibility');
      const hidden = (): void => told('hide');
      const shown = (event: PageTransitionEvent): void => {
        if (event.persisted) told('show');
      };
      document.addEventListener('visibilitychange', changed);
      globalThis.addEventListener('pagehide', hidden);
      globalThis.addEventListener('pageshow', shown);
      return () => {
        document.removeEventListener('visibilitychange', changed);
        globalThis.removeEventListener('pagehide', hidden);
        globalThis.removeEventListener('pageshow', shown);
      };
    },
  };
}

/** The modes to try, best first. */
function available(wanted: Mode | 'auto', locks: boolean): Mode[] {
  if (wanted !== 'auto') return [wanted];
  const modes: Mode[] = [];
  if (typeof SharedWorker !== 'undefined') modes.push('shared-worker');
  if (typeof BroadcastChannel !== 'undefined' && locks) modes.push('leader');
  modes.push('own');
  return modes;
}

function link(mode: Mode, scope: string, options: ConnectOptions): Link {
  switch (mode) {
    case 'shared-worker': {
      const url = options.workerUrl ?? new URL('./worker.js', import.meta.url);
      const start = (name: string): SharedWorker => new SharedWorker(url, { name });
      return new SharedWorkerLink({ start, storage: storage(), onStored }, scope);
    }
    case 'leader': {
      const locks = browserLocks();
      if (locks === null) throw new TypeError('mode "leader" needs Web Locks, which this page does not have');
      const broadcast = (name: string): BroadcastChannel => new BroadcastChannel(name);
      return new LeaderLink({ clock: systemClock, locks, broadcast, load: loadHub, unique }, scope);
    }
    case 'own':
      return new OwnLink(loadHub);
  }
}

function onStored(changed: () => void): () => void {
  globalThis.addEventListener('storage', changed);
  return () => globalThis.removeEventListener('storage', changed);
}

function storage(): Storage | null {
  try {
    return globalThis.localStorage ?? null;
  } catch {
    return null;
  }
}
