// A browser in memory: time, locks, a worker, a gateway.

import type { Client as RealClient, ClientWorld, ConnectOptions } from '../src/client.js';
import { Client } from '../src/client.js';
import type { Clock } from '../src/clock.js';
import { Hub, type HubWorld } from '../src/hub.js';
import { LeaderLink, type Broadcast } from '../src/link/leader.js';
import { OwnLink } from '../src/link/own.js';
import { SharedWorkerLink, type WorkerHandle } from '../src/link/shared-worker.js';
import type { Link, Mode } from '../src/link.js';
import type { Locks } from '../src/locks.js';
import type { Answer, Call, ChannelEvent, ChannelOptions, HubConfig, ToHub, ToTab } from '../src/messages.js';
import { overMessagePort, type Port } from '../src/port.js';
import type { ChannelEvents, Upstream, UpstreamEvents } from '../src/upstream.js';

/** Lets everything run that does not wait for time. */
export async function settle(): Promise<void> {
  for (let round = 0; round < 8; round += 1) await new Promise((resolve) => setImmediate(resolve));
}

export class FakeClock implements Clock {
  #now = 1_700_000_000_000;
  readonly #timers: { at: number; run: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#now + ms, run };
    this.#timers.push(timer);
    return () => {
      const index = this.#timers.indexOf(timer);
      if (index >= 0) this.#timers.splice(index, 1);
    };
  }

  /** Passes time, timer by timer. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      this.#timers.sort((a, b) => a.at - b.at);
      const [next] = this.#timers;
      if (next === undefined || next.at > end) break;
      this.#timers.shift();
      this.#now = Math.max(this.#now, next.at);
      next.run();
      await settle();
    }
    this.#now = end;
  }
}

interface Request {
  name: string;
  owner: string;
  shared: boolean;
  run: () => void;
}

/** Web Locks; `view` is what one tab or worker sees, and `die` takes away all that it has. */
export class FakeLocks {
  readonly #held: Request[] = [];
  readonly #queue: Request[] = [];
  readonly #dead = new Set<string>();

  view(owner: string): Locks {
    return {
      request: (name, { mode, signal }, granted) =>
        new Promise((resolve, reject) => {
          const request: Request = {
            name,
            owner,
            shared: mode === 'shared',
            run: () => void granted().then(resolve, reject).finally(() => this.#release(request)),
          };
          signal?.addEventListener('abort', () => {
            const index = this.#queue.indexOf(request);
            if (index < 0) return;
            this.#queue.splice(index, 1);
            reject(new Error('aborted'));
            this.#grant();
          });
          if (this.#dead.has(owner)) return;
          this.#queue.push(request);
          queueMicrotask(() => this.#grant());
        }),
    };
  }

  die(owner: string): void {
    this.#dead.add(owner);
    for (const list of [this.#held, this.#queue]) {
      for (const request of list.filter((found) => found.owner === owner)) list.splice(list.indexOf(request), 1);
    }
    this.#grant();
  }

  #release(request: Request): void {
    const index = this.#held.indexOf(request);
    if (index >= 0) this.#held.splice(index, 1);
    this.#grant();
  }

  #grant(): void {
    for (const request of [...this.#queue]) {
      const blocked = this.#held.some(({ name, shared }) => name === request.name && !(shared && request.shared));
      if (blocked || !this.#queue.includes(request)) continue;
      this.#queue.splice(this.#queue.indexOf(request), 1);
      this.#held.push(request);
      request.run();
    }
  }
}

export interface FakeSubscription {
  channel: string;
  options: ChannelOptions;
  events: ChannelEvents;
}

/** A gateway that does what the test says. */
export class FakeGateway {
  readonly connections: FakeConnection[] = [];
  /** Answers of calls; by default the question itself. */
  answer: (call: Call) => Promise<Answer> = async (call) =>
    call.op === 'rpc' ? { op: 'rpc', data: call.data } : { op: 'publish' };
  /** Whether connects succeed by themselves. */
  accepts = true;
  calls: Call[] = [];

  /** Connections that are open now. */
  get open(): FakeConnection[] {
    return this.connections.filter((connection) => connection.wanted);
  }

  publish(channel: string, text: string, offset?: number): void {
    for (const connection of this.open) connection.publish(channel, text, offset);
  }
}

export class FakeConnection implements Upstream {
  wanted = false;
  connected = false;
  token: string | null = null;
  readonly subscriptions = new Map<string, FakeSubscription>();
  /** How often each channel was subscribed to. */
  readonly subscribed: string[] = [];

  constructor(
    readonly gateway: FakeGateway,
    readonly config: HubConfig,
    readonly events: UpstreamEvents,
  ) {
    gateway.connections.push(this);
  }

  connect(): void {
    if (this.wanted) return;
    this.wanted = true;
    this.events.connecting(0, 'connect called');
    if (this.gateway.accepts) void this.establish();
  }

  async establish(): Promise<void> {
    try {
      if (this.config.token) this.token = await this.events.connectionToken();
    } catch (error) {
      this.wanted = false;
      return this.events.disconnected(1, (error as Error).message);
    }
    if (!this.wanted) return;
    this.connected = true;
    this.events.connected(`client-${this.gateway.connections.length}`);
    for (const { channel } of this.subscriptions.values()) this.tell(channel, SUBSCRIBED);
  }

  disconnect(): void {
    if (!this.wanted) return;
    this.wanted = false;
    this.connected = false;
    this.events.disconnected(0, 'disconnect called');
  }

  subscribe(channel: string, options: ChannelOptions, events: ChannelEvents): { unsubscribe(): void } {
    this.subscribed.push(channel);
    this.subscriptions.set(channel, { channel, options, events });
    if (this.connected) queueMicrotask(() => this.tell(channel, SUBSCRIBED));
    return { unsubscribe: () => void this.subscriptions.delete(channel) };
  }

  call(call: Call): Promise<Answer> {
    if (call.op === 'rpc' && call.method === 'ping') return Promise.resolve({ op: 'rpc', data: new Uint8Array() });
    this.gateway.calls.push(call);
    return this.gateway.answer(call);
  }

  tell(channel: string, event: ChannelEvent): void {
    this.subscriptions.get(channel)?.events.event(event);
  }

  publish(channel: string, text: string, offset?: number): void {
    const data = new TextEncoder().encode(text);
    this.subscriptions.get(channel)?.events.publication({ channel, data, offset });
  }
}

export const SUBSCRIBED: ChannelEvent = {
  event: 'subscribed',
  recoverable: false,
  positioned: false,
  wasRecovering: false,
  recovered: false,
};

/** Two ends as of a MessageChannel: what is posted before an end closes still arrives at the other. */
function messagePorts(): [MessagePort, MessagePort] {
  const closed = new Set<unknown>();
  const end = (other: () => MessagePort): MessagePort => {
    const port = {
      onmessage: null,
      postMessage(message: unknown) {
        if (closed.has(port)) return;
        const data: unknown = structuredClone(message);
        queueMicrotask(() => !closed.has(other()) && other().onmessage?.({ data } as MessageEvent));
      },
      close: () => void closed.add(port),
    };
    return port as unknown as MessagePort;
  };
  const first = end(() => second);
  const second = end(() => first);
  return [first, second];
}

interface FakeWorker {
  name: string;
  hub: Hub;
  alive: boolean;
  /** Tabs with which it has no contact. */
  deaf: Set<Tab>;
  /** Tabs of which it hears nothing, while they hear it. */
  mute: Set<Tab>;
}

/** A browser with tabs, of one user. */
export class FakeBrowser {
  readonly clock = new FakeClock();
  readonly locks = new FakeLocks();
  readonly gateway = new FakeGateway();
  /** Workers by generation. */
  readonly workers: FakeWorker[] = [];
  readonly stored = new Map<string, string>();
  readonly onStored = new Set<() => void>();
  readonly #listeners = new Set<(from: Broadcast, message: unknown) => void>();
  #names = 0;
  hasLocks = true;
  /** Whether workers start at all. */
  startsWorkers = true;

  /** Opens a tab. `id` names it in the other methods. */
  tab(id: string, options: Partial<ConnectOptions> = {}, modes: Mode[] = ['shared-worker']): Tab {
    return new Tab(this, id, options, modes);
  }

  unique = (): string => `name-${(this.#names += 1)}`;

  hub(owner: string): Hub {
    const world: HubWorld = {
      clock: this.clock,
      locks: this.hasLocks ? this.locks.view(owner) : null,
      open: (config, events) => new FakeConnection(this.gateway, config, events),
      unique: this.unique,
      soon: (run) => void setImmediate(run),
    };
    return new Hub(world);
  }

  /** The worker dies without a word; what it had is gone, the connection too. */
  crash(): void {
    const worker = this.workers.at(-1);
    if (worker === undefined) return;
    worker.alive = false;
    this.locks.die(worker.name);
    for (const connection of this.gateway.open) connection.wanted = false;
  }

  /** The worker of the newest generation, started if it is not there. */
  worker(name: string): FakeWorker {
    const found = this.workers.find((worker) => worker.name === name);
    if (found !== undefined) return found;
    const made: FakeWorker = { name, hub: this.hub(name), alive: true, deaf: new Set(), mute: new Set() };
    this.workers.push(made);
    return made;
  }

  broadcast(from: Tab): Broadcast {
    const channel: Broadcast = {
      postMessage: (message) => {
        const copy = structuredClone(message);
        for (const listener of [...this.#listeners]) setImmediate(() => listener(channel, copy));
      },
      onmessage: null,
      close: () => void this.#listeners.delete(listener),
    };
    const listener = (sender: Broadcast, message: unknown): void => {
      if (sender !== channel && from.alive) channel.onmessage?.({ data: message } as MessageEvent);
    };
    this.#listeners.add(listener);
    return channel;
  }
}

export class Tab {
  alive = true;
  visible = true;
  /** Tells the client what happens to its page. */
  page: (event: 'visibility' | 'hide' | 'show') => void = () => {};
  readonly client: RealClient;
  readonly #browser: FakeBrowser;
  readonly #id: string;
  #own: Hub[] = [];
  #stored: (() => void) | null = null;

  constructor(browser: FakeBrowser, id: string, options: Partial<ConnectOptions>, modes: Mode[]) {
    this.#browser = browser;
    this.#id = id;
    const world: ClientWorld = {
      clock: browser.clock,
      locks: browser.hasLocks ? browser.locks.view(id) : null,
      unique: browser.unique,
      modes,
      link: (mode, scope) => this.#link(mode, scope),
      visible: () => this.visible,
      onPage: (told) => {
        this.page = told;
        return () => {};
      },
    };
    this.client = new Client({ url: 'ws://gateway.test/connection/websocket', ...options }, world);
  }

  /** The tab dies without a word. */
  die(): void {
    this.alive = false;
    this.#browser.locks.die(this.#id);
    for (const hub of this.#own) hub.close();
  }

  #link(mode: Mode, scope: string): Link {
    const load = async (): Promise<Hub> => {
      const hub = this.#browser.hub(this.#id);
      this.#own.push(hub);
      return hub;
    };
    if (mode === 'own') return new OwnLink(load);
    if (mode === 'leader') {
      const browser = this.#browser;
      const broadcast = (): Broadcast => browser.broadcast(this);
      const { clock, unique } = browser;
      return new LeaderLink({ clock, locks: browser.locks.view(this.#id), broadcast, load, unique }, scope);
    }
    return this.#workerLink(scope);
  }

  #workerLink(scope: string): Link {
    const browser = this.#browser;
    const start = (name: string): WorkerHandle => {
      const failed: (() => void)[] = [];
      const [port1, port2] = messagePorts();
      if (browser.startsWorkers && this.alive) this.#between(browser.worker(name), port2);
      else setImmediate(() => failed.forEach((told) => told()));
      return { port: port1, addEventListener: (_type, told) => void failed.push(told) };
    };
    const storage = {
      getItem: (key: string) => browser.stored.get(key) ?? null,
      setItem: (key: string, value: string) => {
        if (!this.alive) return;
        browser.stored.set(key, value);
        for (const told of browser.onStored) if (told !== this.#stored) setImmediate(told);
      },
    };
    const onStored = (changed: () => void): (() => void) => {
      this.#stored = changed;
      browser.onStored.add(changed);
      return () => void browser.onStored.delete(changed);
    };
    return new SharedWorkerLink({ start, storage, onStored }, scope);
  }

  /** Messages pass only while both ends live. */
  #between(worker: FakeWorker, inner: MessagePort): void {
    const flows = (): boolean => worker.alive && this.alive && !worker.deaf.has(this);
    const port = overMessagePort<ToTab, ToHub>(inner);
    const seen: Port<ToTab, ToHub> = {
      post: (message) => flows() && port.post(message),
      onmessage: null,
      onlost: null,
      close: () => port.close(),
    };
    port.onmessage = (message) => flows() && !worker.mute.has(this) && seen.onmessage?.(message);
    worker.hub.accept(seen);
  }
}

export const text = (data: Uint8Array): string => new TextDecoder().decode(data);
