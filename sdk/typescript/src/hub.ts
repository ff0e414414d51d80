// The holder of the one connection. It runs in the SharedWorker, in the tab that leads, or in a tab
// that is on its own; tabs reach it through ports and cannot tell the difference.

import { every, type Cancel, type Clock } from './clock.js';
import { Channel } from './hub/channel.js';
import { Tab } from './hub/tab.js';
import { Tokens } from './hub/tokens.js';
import { hold, whenFree, type Locks } from './locks.js';
import {
  VERSION,
  type Answer,
  type Call,
  type CallError,
  type HubConfig,
  type HubState,
  type ToHub,
  type ToTab,
} from './messages.js';
import type { Port } from './port.js';
import { CODES, CallFailure, type OpenUpstream, type Upstream } from './upstream.js';

/** What the hub needs of the world. */
export interface HubWorld {
  clock: Clock;
  locks: Locks | null;
  open: OpenUpstream;
  /** A name that nobody else has. */
  unique(): string;
  /** Calls back soon, after what has already arrived was looked at. */
  soon(run: () => void): void;
}

/** Limits; each is per hub, that is per browser and identity. */
export const LIMITS = {
  /** Tabs; one more is refused. */
  tabs: 256,
  /** Distinct channels; one more is answered with an error. */
  channels: 1024,
  /** Calls that wait for their answers; one more fails. */
  calls: 1024,
} as const;

/** Between signs of life, in milliseconds. */
export const HEARTBEAT_MS = 1000;
/** Silence after which a tab counts as gone although nothing says that it died, in milliseconds. */
const SILENCE_MS = 20_000;
/** How long a channel that nobody wants any more stays subscribed to, in milliseconds. */
const LINGER_MS = 250;

type TabPort = Port<ToTab, ToHub>;

/** One connection and the tabs that share it. */
export class Hub {
  readonly #world: HubWorld;
  readonly #id: string;
  readonly #lock: Promise<string | null>;
  #releaseLock: Cancel = () => {};
  readonly #tabs = new Map<string, Tab>();
  readonly #channels = new Map<string, Channel>();
  readonly #tokens: Tokens;
  readonly #shared = new Map<string, Promise<Answer>>();
  #upstream: Upstream | null = null;
  #config: HubConfig | null = null;
  #state: HubState = { state: 'disconnected', connections: 0, tabs: 0 };
  #calls = 0;
  #flushing = false;
  #probing = false;
  #closed = false;
  readonly #stopBeating: Cancel;
  #stopProbing: Cancel = () => {};

  constructor(world: HubWorld) {
    this.#world = world;
    this.#id = world.unique();
    this.#tokens = new Tokens(world.clock, () => [...this.#tabs.values()]);
    this.#lock = this.#takeLock();
    this.#stopBeating = every(world.clock, HEARTBEAT_MS, () => this.#beat());
  }

  /** Talks to whoever is at the other end of the port, which says hello first. */
  accept(port: TabPort): void {
    let tab: Tab | null = null;
    port.onmessage = (message) => {
      if (message.t === 'hello') {
        void this.#welcome(port, message).then((welcomed) => (tab = welcomed ?? tab));
      } else if (tab !== null && this.#tabs.get(tab.id) === tab) {
        this.#heard(tab, message);
      } else if (message.t !== 'bye') {
        port.post({ t: 'gone' });
      }
    };
  }

  /** Disconnects; tabs learn it from the lock, or from the silence. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopBeating();
    this.#stopProbing();
    for (const tab of [...this.#tabs.values()]) this.#leave(tab);
    this.#upstream?.disconnect();
    this.#releaseLock();
  }

  async #takeLock(): Promise<string | null> {
    const { locks } = this.#world;
    if (locks === null) return null;
    const name = `tidegate/hub/${this.#id}`;
    const release = await hold(locks, name);
    if (release === null) return null;
    this.#releaseLock = release;
    if (this.#closed) release();
    return name;
  }

  async #welcome(port: TabPort, hello: Extract<ToHub, { t: 'hello' }>): Promise<Tab | null> {
    const refusal = this.#refusal(hello);
    if (refusal !== null) {
      port.post({ t: 'refused', reason: refusal });
      return null;
    }
    const lock = await this.#lock;
    if (this.#closed) return null;
    const before = this.#tabs.get(hello.tab);
    if (before !== undefined) this.#leave(before, before.port === port ? 'again' : 'left');

    const tab = new Tab(hello, port, this.#world.clock.now());
    this.#tabs.set(tab.id, tab);
    this.#config ??= hello.config;
    if (this.#upstream === null) this.#state = { state: 'connecting', connections: 0, tabs: 0 };
    this.#update({ tabs: this.#tabs.size });
    port.post({ t: 'welcome', hub: this.#id, lock, heartbeatMs: HEARTBEAT_MS, state: this.#state });
    if (this.#world.locks !== null && hello.lock !== null) {
      tab.stopWatching = whenFree(this.#world.locks, hello.lock, () => this.#leave(tab));
    }
    // Only now: a tab listens to questions for tokens once it is welcome.
    this.#connected(this.#config).connect();
    for (const { channel, options } of hello.channels) this.#subscribe(tab, channel, options);
    return tab;
  }

  #refusal(hello: Extract<ToHub, { t: 'hello' }>): string | null {
    if (hello.version !== VERSION) return `version ${hello.version} of the messages is not spoken here`;
    const { url, identity } = this.#config ?? hello.config;
    if (hello.config.url !== url || hello.config.identity !== identity) {
      return 'this connection belongs to another address or identity';
    }
    if (this.#tabs.size >= LIMITS.tabs && !this.#tabs.has(hello.tab)) return 'too many tabs';
    return null;
  }

  #heard(tab: Tab, message: ToHub): void {
    tab.heard = this.#world.clock.now();
    switch (message.t) {
      case 'hello':
      case 'pong':
        return;
      case 'bye':
        return this.#leave(tab);
      case 'visible':
        tab.visible = message.visible;
        return;
      case 'subscribe':
        return this.#subscribe(tab, message.channel, message.options);
      case 'unsubscribe':
        return this.#unsubscribe(tab, message.channel);
      case 'call':
        return void this.#call(tab, message.id, message.call, message.timeoutMs);
      case 'token':
        return this.#tokens.given(message.id, message.token);
      case 'no-token':
        return this.#tokens.refused(tab, message.id, message.message, message.unauthorized);
      case 'ack':
        return tab.acknowledged(message.batch);
      case 'connect':
        return this.#upstream?.connect();
      case 'probe':
        return tab.port.post({ t: 'ping' });
    }
  }

  /** @param how `silent` may be there all the same, `again` is there on the same port */
  #leave(tab: Tab, how: 'left' | 'silent' | 'again' = 'left'): void {
    if (this.#tabs.get(tab.id) !== tab) return;
    this.#tabs.delete(tab.id);
    tab.stopWatching();
    for (const channel of [...this.#channels.values()]) this.#unsubscribe(tab, channel.name);
    this.#tokens.left(tab);
    this.#update({ tabs: this.#tabs.size });
    // Should it be there all the same, it comes back.
    if (how === 'silent') tab.port.post({ t: 'gone' });
    if (how !== 'again') tab.port.close();
    if (this.#tabs.size > 0) return;
    // The last one out: nothing lingers.
    for (const channel of this.#channels.values()) channel.close();
    this.#channels.clear();
    this.#upstream?.disconnect();
    this.#stopProbing();
    this.#config = null;
    this.#upstream = null;
  }

  #subscribe(tab: Tab, name: string, options: Channel['options']): void {
    let channel = this.#channels.get(name);
    if (channel === undefined) {
      if (this.#channels.size >= LIMITS.channels) {
        const event = { event: 'unsubscribed', code: CODES.full, reason: 'too many channels' } as const;
        return tab.port.post({ t: 'channel', channel: name, event });
      }
      channel = new Channel(name, options, {
        tell: (to, event) => {
          this.#flush();
          to.port.post({ t: 'channel', channel: name, event });
        },
        deliver: (to, publication) => {
          to.put(publication);
          this.#flushSoon();
        },
      });
      this.#channels.set(name, channel);
    }
    channel.join(tab, options);
    if (this.#config !== null) channel.open(this.#connected(this.#config));
  }

  #unsubscribe(tab: Tab, name: string): void {
    const channel = this.#channels.get(name);
    if (channel === undefined || !channel.leave(tab)) return;
    if (channel.tabs.size > 0) return;
    // A page that is being rebuilt unsubscribes and subscribes within the same moment.
    this.#world.clock.after(LINGER_MS, () => {
      if (this.#channels.get(name) !== channel || channel.tabs.size > 0) return;
      this.#channels.delete(name);
      channel.close();
    });
  }

  async #call(tab: Tab, id: number, call: Call, timeoutMs: number): Promise<void> {
    try {
      const answer = await this.#asked(call, timeoutMs);
      tab.port.post({ t: 'answer', id, answer });
    } catch (error) {
      tab.port.post({ t: 'failure', id, error: failure(error) });
    }
  }

  /** Equal questions of several tabs that may be shared are asked once. */
  #asked(call: Call, timeoutMs: number): Promise<Answer> {
    const upstream = this.#upstream;
    if (upstream === null || this.#state.state === 'disconnected') {
      return Promise.reject(new CallFailure(CODES.lost, 'not connected'));
    }
    const key = call.op === 'rpc' && call.share ? `${call.method}\n${call.data.join()}` : null;
    const going = key === null ? undefined : this.#shared.get(key);
    if (going !== undefined) return going;
    if (this.#calls >= LIMITS.calls) return Promise.reject(new CallFailure(CODES.full, 'too many calls at once'));
    this.#calls += 1;
    const asked = upstream.call(call, timeoutMs).finally(() => {
      this.#calls -= 1;
      if (key !== null) this.#shared.delete(key);
    });
    if (key !== null) this.#shared.set(key, asked);
    return asked;
  }

  #connected(config: HubConfig): Upstream {
    if (this.#upstream !== null) return this.#upstream;
    const own = (run: () => unknown) => (): void => {
      if (this.#upstream === upstream) run();
    };
    const upstream: Upstream = this.#world.open(config, {
      connecting: (code, reason) =>
        own(() => this.#update({ state: 'connecting', connections: 1, code, reason, clientId: undefined }))(),
      connected: (clientId) =>
        own(() => {
          this.#update({ state: 'connected', connections: 1, clientId, code: undefined, reason: undefined });
          void this.#probe();
        })(),
      failed: (code, reason) =>
        own(() => this.#state.state === 'connecting' && this.#update({ code, reason }))(),
      disconnected: (code, reason) =>
        own(() => this.#update({ state: 'disconnected', connections: 0, code, reason, clientId: undefined }))(),
      connectionToken: () => this.#tokens.ask({ purpose: 'connection' }),
      subscriptionToken: (channel) => this.#tokens.ask({ purpose: 'subscription', channel }),
    });
    this.#upstream = upstream;
    if (config.latencyProbeMs > 0) {
      this.#stopProbing = every(this.#world.clock, config.latencyProbeMs, () => void this.#probe());
    }
    return upstream;
  }

  #update(change: Partial<HubState>): void {
    const next = { ...this.#state, ...change };
    if (this.#tabs.size === 0) next.state = 'disconnected';
    if (next.state !== 'connected') delete next.latencyMs;
    this.#state = next;
    this.#flush();
    for (const tab of this.#tabs.values()) tab.port.post({ t: 'state', state: next });
  }

  #beat(): void {
    const { clock } = this.#world;
    for (const tab of [...this.#tabs.values()]) {
      if (clock.now() - tab.heard > SILENCE_MS) this.#leave(tab, 'silent');
      else tab.port.post({ t: 'ping' });
    }
  }

  /** Any answer of the server tells the round trip, a refusal as well. */
  async #probe(): Promise<void> {
    const upstream = this.#upstream;
    if (upstream === null || this.#probing || this.#state.state !== 'connected') return;
    if (this.#config?.latencyProbeMs === 0) return;
    this.#probing = true;
    const { clock } = this.#world;
    const asked = clock.now();
    try {
      await upstream.call({ op: 'rpc', method: 'ping', data: new Uint8Array(), share: false }, HEARTBEAT_MS * 5);
      this.#measured(upstream, clock.now() - asked);
    } catch (error) {
      if (failure(error).code >= 100) this.#measured(upstream, clock.now() - asked);
    } finally {
      this.#probing = false;
    }
  }

  #measured(upstream: Upstream, latencyMs: number): void {
    if (this.#upstream === upstream && this.#state.state === 'connected') this.#update({ latencyMs });
  }

  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    this.#world.soon(() => this.#flush());
  }

  #flush(): void {
    this.#flushing = false;
    for (const tab of this.#tabs.values()) tab.flush();
  }
}

function failure(error: unknown): CallError {
  if (error instanceof CallFailure) return { code: error.code, message: error.message };
  return { code: CODES.lost, message: error instanceof Error ? error.message : String(error) };
}
