// A tab: what the application talks to.

import { every, pause, type Cancel, type Clock } from './clock.js';
import { LocalChannel, type Listener } from './client/channel.js';
import { scopeOf, type HubPort, type Link, type Mode } from './link.js';
import { hold, whenFree, type Locks, type Release } from './locks.js';
import {
  VERSION,
  type Answer,
  type Call,
  type ChannelEvent,
  type ChannelOptions,
  type HubConfig,
  type HubState,
  type Publication,
  type StreamPosition,
  type ToHub,
  type ToTab,
  type TokenContext,
} from './messages.js';
import { Variable, guarded, type Observable } from './observable.js';
import { CODES, CallFailure, Unauthorized } from './upstream.js';

/** How to reach the gateway. */
export interface ConnectOptions {
  /** Address of the gateway's native dialect, `ws://…/connection/websocket` or `wss://…`. */
  url: string;
  /** Where the script of `@tidegate/client/worker` is served, on the origin of the page. */
  workerUrl?: string | URL;
  /**
   * Gives a token for the connection, or for a channel of `subscribe(…, { token: true })`. Asked of
   * one tab of the browser, of another one when that does not answer within a second.
   * Throw {@link Unauthorized} to give up the connection; any other error is tried again later.
   */
  getToken?: (context: TokenContext) => Promise<string>;
  /** Whose connection it is: tabs of different identities do not share one. Default: empty. */
  identity?: string;
  /** Where to hold the connection; default `auto`: the best there is. */
  mode?: Mode | 'auto';
  /** Name told to the gateway, for its operators. */
  name?: string;
  /** Between measurements of the round trip, in milliseconds; 0 for none. Default 5000. */
  latencyProbeMs?: number;
  /** The longest wait between attempts to reconnect, in milliseconds. Default 2000. */
  maxReconnectDelayMs?: number;
}

/** State of the connection, the same in all tabs that share it. */
export interface ConnectionState extends HubState {
  /** Where it is held. */
  mode: Mode;
}

/** What a subscriber is called with. What they throw is reported as uncaught and harms nobody else. */
export interface ChannelHandlers {
  /** The publications that have arrived together, oldest first. */
  onData?(publications: Publication[]): void;
  /** Subscribed, at first or again; tells whether what was missed is made up for. */
  onSubscribed?(event: Extract<ChannelEvent, { event: 'subscribed' }>): void;
  /** Not subscribed for the moment. */
  onSubscribing?(event: Extract<ChannelEvent, { event: 'subscribing' }>): void;
  /** Refused or ended by the server, for good. */
  onUnsubscribed?(event: Extract<ChannelEvent, { event: 'unsubscribed' }>): void;
  /** An attempt failed and will be repeated. */
  onError?(event: Extract<ChannelEvent, { event: 'error' }>): void;
  /** Others that come and go, with `joinLeave`. */
  onPresence?(event: Extract<ChannelEvent, { event: 'join' | 'leave' }>): void;
  /** This tab was too slow or asleep, and publications were left out for it. */
  onLost?(): void;
}

/** Handlers and options. Of several subscribers to a channel the first one's options decide. */
export interface SubscribeOptions extends ChannelHandlers, ChannelOptions {}

export interface Subscription {
  readonly channel: string;
  /** Ends it. The browser unsubscribes when its last subscription has ended. Harmless when repeated. */
  unsubscribe(): void;
}

export interface CallOptions {
  /** How long to wait for the answer, in milliseconds. Default 5000. */
  timeoutMs?: number;
  /** Whether equal questions of several tabs at once may share one answer. Default false. */
  share?: boolean;
}

export interface HistoryOptions {
  /** How many publications at most. Default 100. */
  limit?: number;
  since?: StreamPosition;
  /** Newest first. */
  reverse?: boolean;
}

export interface History extends StreamPosition {
  publications: Publication[];
}

/** What the client needs of the world. */
export interface ClientWorld {
  clock: Clock;
  locks: Locks | null;
  unique(): string;
  /** The modes to try, best first; at least one. */
  modes: Mode[];
  link(mode: Mode, scope: string): Link;
  visible(): boolean;
  /** Tells of the page: its visibility changed, it goes, it comes back as it was. */
  onPage(told: (event: 'visibility' | 'hide' | 'show') => void): Cancel;
}

/** Calls that wait at once, per tab; one more fails. */
export const CALLS = 1024;
/** How long the hub may take to say welcome, in milliseconds; the first time its code has to be loaded. */
export const WELCOME_MS = 2000;
const FIRST_WELCOME_MS = 8000;
/** Silence, in heartbeats, after which the hub is asked whether it lives, and how long it may take to answer. */
interface Patience {
  silence: number;
  answer: number;
}
/** Where nothing else tells of its death. */
const SHORT: Patience = { silence: 1.5, answer: 0.5 };
/** Where a Web Lock tells of its death at once: then it is alive and hangs, or the machine is busy. */
const LONG: Patience = { silence: 3, answer: 1 };
/** Failed attempts in one mode before the next mode is tried. */
const ATTEMPTS = 2;
/** The first wait after a failed attempt, in milliseconds; doubled each time … */
const RETRY_MS = 100;
/** … up to this. */
const RETRY_MAX_MS = 2000;
/** Every how many batches the hub is told that they have arrived. */
const ACKNOWLEDGE = 16;
const TIMEOUT_MS = 5000;

interface Waiting {
  resolve(answer: Answer): void;
  reject(error: Error): void;
  cancel: Cancel;
  send(port: HubPort): void;
  sent: boolean;
}

/** One tab's share of the connection. Made by {@link connect}. */
export class Client {
  readonly #options: ConnectOptions;
  readonly #world: ClientWorld;
  readonly #config: HubConfig;
  readonly #scope: string;
  readonly #tab: string;
  readonly #state: Variable<ConnectionState>;
  readonly #channels = new Map<string, LocalChannel>();
  readonly #calls = new Map<number, Waiting>();
  readonly #stop = new AbortController();
  readonly #stopPage: Cancel;
  #modes: Mode[];
  #link: Link;
  #port: HubPort | null = null;
  #lost: ((reason: string, dead?: boolean) => void) | null = null;
  #lock: { name: string; release: Release } | null = null;
  #heard = 0;
  #probed = 0;
  #ids = 0;
  #welcomed = false;
  /** Whether the page has gone, perhaps to come back. */
  #away = false;

  /** Use {@link connect}, unless in a test. */
  constructor(options: ConnectOptions, world: ClientWorld) {
    const url = new URL(options.url).href;
    this.#options = options;
    this.#world = world;
    this.#config = {
      url,
      identity: options.identity ?? '',
      name: options.name ?? 'tidegate-js',
      version: '0.1.0',
      token: options.getToken !== undefined,
      latencyProbeMs: options.latencyProbeMs ?? 5000,
      maxReconnectDelayMs: options.maxReconnectDelayMs ?? 2000,
    };
    this.#scope = scopeOf(VERSION, url, this.#config.identity);
    this.#tab = world.unique();
    this.#modes = [...world.modes];
    this.#link = this.#nextLink();
    this.#state = new Variable<ConnectionState>({ state: 'connecting', connections: 0, tabs: 1, mode: this.mode });
    this.#stopPage = world.onPage((event) => this.#page(event));
    void this.#run();
  }

  /** Where the connection is held now. With `auto` it may get worse when the browser turns out not to play along. */
  get mode(): Mode {
    return this.#link.mode;
  }

  /** The connection, as all tabs see it. */
  get state(): Observable<ConnectionState> {
    return this.#state;
  }

  /** Subscribes to a channel until told otherwise, across reconnects and deaths of the worker. */
  subscribe(channel: string, options: SubscribeOptions): Subscription {
    let local = this.#channels.get(channel);
    if (local === undefined) {
      local = new LocalChannel(channel, channelOptions(options));
      this.#channels.set(channel, local);
      this.#port?.post({ t: 'subscribe', channel, options: local.options() });
    }
    const joined = local;
    const listener: Listener = { handlers: options };
    joined.join(listener, options.last === true);
    const unsubscribe = (): void => {
      if (!joined.leave(listener) || this.#channels.get(channel) !== joined) return;
      this.#channels.delete(channel);
      this.#port?.post({ t: 'unsubscribe', channel });
    };
    return { channel, unsubscribe };
  }

  /**
   * Asks the server.
   * @param data bytes, or anything else to be sent as JSON text
   * @throws {CallFailure} (as a rejection) with the server's code, or below 100 with one of {@link CODES}
   */
  async rpc(method: string, data: unknown = {}, options: CallOptions = {}): Promise<Uint8Array> {
    const call: Call = { op: 'rpc', method, data: bytes(data), share: options.share ?? false };
    const answer = await this.#call(call, options);
    return answer.op === 'rpc' ? answer.data : new Uint8Array();
  }

  /** Publishes, where the channel allows it to clients. Errors as for {@link rpc}. */
  async publish(channel: string, data: unknown, options: CallOptions = {}): Promise<void> {
    await this.#call({ op: 'publish', channel, data: bytes(data) }, options);
  }

  /** What a channel keeps, where it allows that to clients. Errors as for {@link rpc}. */
  async history(channel: string, options: HistoryOptions & CallOptions = {}): Promise<History> {
    const { limit = 100, since, reverse = false } = options;
    const answer = await this.#call({ op: 'history', channel, limit, since, reverse }, options);
    if (answer.op !== 'history') return { publications: [], offset: 0, epoch: '' };
    return { publications: answer.publications, offset: answer.offset, epoch: answer.epoch };
  }

  /** Tries again after a disconnect for good, for example with a new token. Harmless otherwise. */
  reconnect(): void {
    this.#port?.post({ t: 'connect' });
  }

  /** Leaves; the last tab out disconnects. Calls that wait fail. */
  close(): void {
    if (this.#stop.signal.aborted) return;
    this.#port?.post({ t: 'bye' });
    this.#stop.abort();
    this.#stopPage();
    this.#failCalls(() => true, new CallFailure(CODES.closed, 'closed'));
    this.#channels.clear();
    this.#lost?.('closed');
    // Messages within this page arrive in a later turn; the farewell is to be the last one.
    queueMicrotask(() => queueMicrotask(() => this.#link.close()));
    this.#lock?.release();
    this.#state.set({ state: 'disconnected', connections: 0, tabs: 0, mode: this.mode, reason: 'closed' });
  }

  /** Attaches to a hub, again and again. */
  async #run(): Promise<void> {
    const { locks, clock } = this.#world;
    if (locks !== null) {
      const name = `tidegate/tab/${this.#tab}`;
      const release = await hold(locks, name);
      if (release !== null) this.#lock = { name, release };
      if (this.#closed) release?.();
    }
    let failures = 0;
    let wait = RETRY_MS;
    while (!this.#closed) {
      const attached = await this.#attach();
      if (this.#closed) return;
      failures = attached.welcome ? 0 : failures + 1;
      if (attached.dead) this.#link.failed();
      this.#failCalls((call) => call.sent, new CallFailure(CODES.lost, attached.reason));
      this.#show({ state: 'connecting', connections: 0, tabs: 1, reason: attached.reason });
      if (failures >= ATTEMPTS && this.#modes.length > 0) {
        this.#link.close();
        this.#link = this.#nextLink();
        failures = 0;
      }
      if (attached.welcome) {
        wait = RETRY_MS;
      } else {
        await pause(clock, wait);
        wait = Math.min(wait * 2, RETRY_MAX_MS);
      }
    }
  }

  /** @returns when the hub is lost, or was not to be had; `dead` when nobody should try the same one again */
  #attach(): Promise<{ welcome: boolean; dead: boolean; reason: string }> {
    const { clock, locks } = this.#world;
    return new Promise((resolve) => {
      const stop = new AbortController();
      const cancels: Cancel[] = [];
      let port: HubPort | null = null;
      let welcome = false;
      const end = (reason: string, dead = true): void => {
        if (stop.signal.aborted) return;
        stop.abort();
        for (const cancel of cancels) cancel();
        this.#port = null;
        this.#lost = null;
        // A hub that only seemed dead is to know that nobody listens any more.
        if (port !== null && !this.#closed) port.post({ t: 'bye' });
        port?.close();
        resolve({ welcome, dead, reason });
      };
      this.#lost = end;
      this.#away = false;
      const welcomeMs = this.#welcomed ? WELCOME_MS : FIRST_WELCOME_MS;
      cancels.push(clock.after(welcomeMs, () => !welcome && end('no answer of the connection holder')));

      const welcomed = (message: Extract<ToTab, { t: 'welcome' }>): void => {
        if (port === null || welcome) return;
        welcome = true;
        this.#welcomed = true;
        this.#port = port;
        this.#heard = clock.now();
        if (locks !== null && message.lock !== null) {
          cancels.push(whenFree(locks, message.lock, () => end('the connection holder has ended')));
        }
        const patience = locks !== null && message.lock !== null ? LONG : SHORT;
        const watch = (): void => this.#watch(message.heartbeatMs, patience, cancels, end);
        cancels.push(every(clock, message.heartbeatMs / 2, watch));
        this.#show(message.state);
        // What was asked for since the hello.
        for (const channel of this.#channels.values()) {
          if (!greeted.has(channel)) {
            port.post({ t: 'subscribe', channel: channel.name, options: channel.options() });
          }
        }
        for (const channel of greeted) {
          if (this.#channels.get(channel.name) !== channel) port.post({ t: 'unsubscribe', channel: channel.name });
        }
        for (const call of this.#calls.values()) if (!call.sent) call.send(port);
      };

      let greeted = new Set<LocalChannel>();
      this.#link.attach(this.#tab, stop.signal).then(
        (made) => {
          if (stop.signal.aborted) return made.close();
          port = made;
          made.onlost = (reason) => end(reason);
          made.onmessage = (message) => {
            this.#heard = clock.now();
            if (message.t === 'welcome') welcomed(message);
            else if (message.t === 'refused') end(message.reason, false);
            else if (message.t === 'gone') end('the connection holder has forgotten this tab', false);
            else if (welcome) this.#receive(made, message);
          };
          greeted = new Set(this.#channels.values());
          made.post(this.#hello(greeted));
        },
        (error: unknown) => end(error instanceof Error ? error.message : String(error)),
      );
    });
  }

  #hello(channels: Set<LocalChannel>): ToHub {
    return {
      t: 'hello',
      version: VERSION,
      tab: this.#tab,
      lock: this.#lock?.name ?? null,
      config: this.#config,
      visible: this.#world.visible(),
      channels: [...channels].map((channel) => ({ channel: channel.name, options: channel.options() })),
    };
  }

  /** A page that was busy or asleep has heard nothing either: so the hub is asked before it is given up. */
  #watch(heartbeatMs: number, patience: Patience, cancels: Cancel[], end: (reason: string) => void): void {
    const { clock } = this.#world;
    if (this.#away || clock.now() - this.#heard <= patience.silence * heartbeatMs) return;
    if (this.#probed >= this.#heard) return;
    const heard = this.#heard;
    this.#probed = clock.now();
    this.#port?.post({ t: 'probe' });
    cancels.push(
      clock.after(patience.answer * heartbeatMs, () => {
        if (this.#heard === heard) end('the connection holder does not answer');
      }),
    );
  }

  #receive(port: HubPort, message: ToTab): void {
    switch (message.t) {
      case 'state':
        return this.#show(message.state);
      case 'batch':
        if (message.batch % ACKNOWLEDGE === 0) port.post({ t: 'ack', batch: message.batch });
        return this.#deliver(message.publications);
      case 'channel':
        return this.#channels.get(message.channel)?.event(message.event);
      case 'answer':
        return this.#settle(message.id, (call) => call.resolve(message.answer));
      case 'failure': {
        const { code, message: text } = message.error;
        return this.#settle(message.id, (call) => call.reject(new CallFailure(code, text)));
      }
      case 'token':
        return void this.#giveToken(port, message.id, message.context);
      case 'ping':
        return port.post({ t: 'pong' });
      case 'welcome':
      case 'refused':
      case 'gone':
        return;
    }
  }

  #deliver(publications: Publication[]): void {
    const [first] = publications;
    if (first === undefined) return;
    if (publications.every(({ channel }) => channel === first.channel)) {
      return this.#channels.get(first.channel)?.data(publications);
    }
    const sorted = new Map<string, Publication[]>();
    for (const publication of publications) {
      const found = sorted.get(publication.channel);
      if (found === undefined) sorted.set(publication.channel, [publication]);
      else found.push(publication);
    }
    for (const [channel, found] of sorted) this.#channels.get(channel)?.data(found);
  }

  async #giveToken(port: HubPort, id: number, context: TokenContext): Promise<void> {
    try {
      if (this.#options.getToken === undefined) throw new Error('this tab has no tokens');
      port.post({ t: 'token', id, token: await this.#options.getToken(context) });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      port.post({ t: 'no-token', id, message, unauthorized: error instanceof Unauthorized });
    }
  }

  #call(call: Call, options: CallOptions): Promise<Answer> {
    const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    if (this.#closed) return Promise.reject(new CallFailure(CODES.closed, 'closed'));
    if (this.#calls.size >= CALLS) return Promise.reject(new CallFailure(CODES.full, 'too many calls at once'));
    const id = (this.#ids += 1);
    return new Promise((resolve, reject) => {
      const expired = (): void =>
        this.#settle(id, ({ reject }) => reject(new CallFailure(CODES.deadline, 'no answer in time')));
      const waiting: Waiting = {
        resolve,
        reject,
        cancel: this.#world.clock.after(timeoutMs, expired),
        sent: false,
        send(port) {
          waiting.sent = true;
          port.post({ t: 'call', id, call, timeoutMs });
        },
      };
      this.#calls.set(id, waiting);
      if (this.#port !== null) waiting.send(this.#port);
    });
  }

  #settle(id: number, how: (call: Waiting) => void): void {
    const call = this.#calls.get(id);
    if (call === undefined) return;
    this.#calls.delete(id);
    call.cancel();
    how(call);
  }

  #failCalls(which: (call: Waiting) => boolean, error: Error): void {
    for (const [id, call] of [...this.#calls]) if (which(call)) this.#settle(id, ({ reject }) => reject(error));
  }

  #page(event: 'visibility' | 'hide' | 'show'): void {
    if (event === 'visibility') this.#port?.post({ t: 'visible', visible: this.#world.visible() });
    else if (event === 'hide') this.#goAway();
    // The page was kept and comes back: the hub took the farewell at its word.
    else this.#lost?.('the page was put aside', false);
  }

  #goAway(): void {
    this.#away = true;
    this.#port?.post({ t: 'bye' });
  }

  #show(state: HubState): void {
    if (!this.#closed) guarded(() => this.#state.set({ ...state, mode: this.mode }));
  }

  #nextLink(): Link {
    const [mode = 'own', ...rest] = this.#modes;
    this.#modes = rest;
    return this.#world.link(mode, this.#scope);
  }

  get #closed(): boolean {
    return this.#stop.signal.aborted;
  }
}

function channelOptions(options: SubscribeOptions): ChannelOptions {
  const { positioned, recoverable, since, joinLeave, data, last, token } = options;
  return { positioned, recoverable, since, joinLeave, data, last, token };
}

function bytes(data: unknown): Uint8Array {
  if (data instanceof Uint8Array) return data;
  return new TextEncoder().encode(typeof data === 'string' ? data : JSON.stringify(data));
}
