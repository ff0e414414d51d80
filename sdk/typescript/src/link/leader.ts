// The hub in one of the tabs: who holds a Web Lock leads, the others talk to it by BroadcastChannel.

import { every, type Cancel, type Clock } from '../clock.js';
import type { Hub } from '../hub.js';
import type { HubPort, Link, LoadHub } from '../link.js';
import type { Locks } from '../locks.js';
import type { ToHub, ToTab } from '../messages.js';
import { localPorts, type Port } from '../port.js';

/** The part of `BroadcastChannel` that is used. */
export interface Broadcast {
  postMessage(message: unknown): void;
  onmessage: ((event: MessageEvent) => void) | null;
  close(): void;
}

export interface LeaderWorld {
  clock: Clock;
  locks: Locks;
  broadcast(name: string): Broadcast;
  load: LoadHub;
  unique(): string;
}

type Said =
  | { k: 'who' }
  | { k: 'leader'; hub: string }
  | { k: 'to-hub'; hub: string; from: string; message: ToHub }
  | { k: 'to-tab'; hub: string; to: string; message: ToTab };

/** Between questions for the leader, in milliseconds. */
const ASK_MS = 250;

export class LeaderLink implements Link {
  readonly mode = 'leader';
  readonly #world: LeaderWorld;
  readonly #channel: Broadcast;
  readonly #closing = new AbortController();
  /** The hub of this tab, if it leads. */
  #own: { id: string; hub: Hub } | null = null;
  /** Ports of the own hub, by tab. */
  readonly #served = new Map<string, Port<ToTab, ToHub>>();
  #leader: string | null = null;
  /** The hub that was attached to last. */
  #attached: string | null = null;
  #port: { hub: string; tab: string; port: HubPort } | null = null;
  readonly #waiting = new Set<() => void>();

  constructor(world: LeaderWorld, scope: string) {
    this.#world = world;
    this.#channel = world.broadcast(scope);
    this.#channel.onmessage = ({ data }) => this.#heard(data as Said);
    const { signal } = this.#closing;
    world.locks.request(`${scope}/leader`, { signal }, () => this.#lead(signal)).catch(() => {});
  }

  async attach(tab: string, signal: AbortSignal): Promise<HubPort> {
    if (this.#leader === null && this.#own === null) await this.#found(signal);
    this.#attached = this.#leader;
    if (this.#own !== null) {
      const [here, there] = localPorts<ToHub, ToTab>();
      this.#own.hub.accept(there);
      return here;
    }
    return this.#remote(tab, this.#leader ?? '');
  }

  failed(): void {
    // Whoever has been announced since is worth a try.
    if (this.#leader === this.#attached) this.#leader = null;
  }

  close(): void {
    this.#closing.abort();
    this.#channel.onmessage = null;
    this.#channel.close();
  }

  /** Holds the lock, and leads, until this link is closed or the tab ends. */
  async #lead(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const hub = await this.#world.load();
    if (signal.aborted) return hub.close();
    this.#own = { id: this.#world.unique(), hub };
    this.#announce();
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
    this.#own = null;
    hub.close();
  }

  #announce(): void {
    if (this.#own === null) return;
    this.#say({ k: 'leader', hub: this.#own.id });
    this.#follow(this.#own.id);
  }

  #follow(hub: string): void {
    this.#leader = hub;
    for (const go of this.#waiting) go();
    if (this.#port === null || this.#port.hub === hub) return;
    const { port } = this.#port;
    this.#port = null;
    port.onlost?.('another tab leads');
  }

  #found(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      let stop: Cancel = () => {};
      const done = (): void => {
        stop();
        this.#waiting.delete(done);
        resolve();
      };
      this.#waiting.add(done);
      const ask = (): void => this.#say({ k: 'who' });
      stop = every(this.#world.clock, ASK_MS, ask);
      signal.addEventListener('abort', () => {
        stop();
        this.#waiting.delete(done);
        reject(new Error('no tab leads'));
      });
      ask();
    });
  }

  #remote(tab: string, hub: string): HubPort {
    const port: HubPort = {
      post: (message) => this.#say({ k: 'to-hub', hub, from: tab, message }),
      onmessage: null,
      onlost: null,
      close: () => {
        if (this.#port?.port === port) this.#port = null;
      },
    };
    this.#port = { hub, tab, port };
    return port;
  }

  #heard(said: Said): void {
    switch (said.k) {
      case 'who':
        return this.#announce();
      case 'leader':
        return this.#follow(said.hub);
      case 'to-hub':
        if (said.hub === this.#own?.id) this.#serve(said.from).onmessage?.(said.message);
        return;
      case 'to-tab':
        if (said.hub === this.#port?.hub && said.to === this.#port.tab) this.#port.port.onmessage?.(said.message);
    }
  }

  #serve(tab: string): Port<ToTab, ToHub> {
    const known = this.#served.get(tab);
    if (known !== undefined) return known;
    const hub = this.#own?.id ?? '';
    const port: Port<ToTab, ToHub> = {
      post: (message) => this.#say({ k: 'to-tab', hub, to: tab, message }),
      onmessage: null,
      onlost: null,
      close: () => void this.#served.delete(tab),
    };
    this.#served.set(tab, port);
    this.#own?.hub.accept(port);
    return port;
  }

  #say(said: Said): void {
    if (!this.#closing.signal.aborted) this.#channel.postMessage(said);
  }
}
