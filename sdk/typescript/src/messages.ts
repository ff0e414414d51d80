// What tabs and the hub say to each other. Both ends come from one version of this package:
// the version is part of the worker's name, so that ends of different versions never meet.

/** Version of these messages. */
export const VERSION = 1;

/** Where a channel's stream stands. */
export interface StreamPosition {
  /** Number of the last publication. */
  offset: number;
  /** Life of the stream: offsets of different lives cannot be compared. */
  epoch: string;
}

/** One publication. */
export interface Publication {
  channel: string;
  data: Uint8Array;
  /** Position in the stream, on channels with history. */
  offset?: number;
  tags?: Record<string, string>;
}

/** How a channel is subscribed to. Of several subscribers the first decides. */
export interface ChannelOptions {
  /** Asks the server for positions, so that a loss is noticed. */
  positioned?: boolean;
  /** Asks the server to make up for what was missed while disconnected. */
  recoverable?: boolean;
  /** Where to go on from. */
  since?: StreamPosition;
  /** Asks for news of others that come and go. */
  joinLeave?: boolean;
  /** Sent along with the subscription. */
  data?: Uint8Array;
  /** Whether a tab that joins later is given the last publication that the browser has seen. */
  last?: boolean;
  /** Whether `getSubscriptionToken` is to be asked. */
  token?: boolean;
}

/** What a subscriber is told apart from publications. */
export type ChannelEvent =
  | { event: 'subscribing'; code: number; reason: string }
  | {
      event: 'subscribed';
      recoverable: boolean;
      positioned: boolean;
      /** Whether it was tried to make up for what was missed … */
      wasRecovering: boolean;
      /** … and whether nothing is missing. */
      recovered: boolean;
      position?: StreamPosition;
      data?: Uint8Array;
    }
  | { event: 'unsubscribed'; code: number; reason: string }
  | { event: 'error'; code: number; message: string }
  | { event: 'join' | 'leave'; client: string; user: string }
  /** This tab did not keep up: publications were left out. */
  | { event: 'lost' };

/** What a token is needed for. */
export interface TokenContext {
  /** `connection` for the connection, `subscription` for one channel. */
  purpose: 'connection' | 'subscription';
  channel?: string;
}

/** The connection, as all tabs see it. */
export interface HubState {
  state: 'connecting' | 'connected' | 'disconnected';
  /** WebSockets of this browser and identity, open or being opened: 0 or 1. */
  connections: number;
  /** Tabs that share them. */
  tabs: number;
  /** Why it is not connected. */
  reason?: string;
  code?: number;
  /** Time of the last round trip to the gateway, in milliseconds. */
  latencyMs?: number;
  /** Name the gateway gave to the connection. */
  clientId?: string;
}

/** What the hub needs to connect. Of several tabs the first decides. */
export interface HubConfig {
  url: string;
  identity: string;
  /** Name and version told to the gateway. */
  name: string;
  version: string;
  /** Whether tokens are asked of tabs. */
  token: boolean;
  /** Between probes of the latency, in milliseconds; 0: none. */
  latencyProbeMs: number;
  /** The longest wait before the next attempt to connect, in milliseconds. */
  maxReconnectDelayMs: number;
}

export interface CallError {
  code: number;
  message: string;
}

/** A question to the server. */
export type Call =
  | { op: 'rpc'; method: string; data: Uint8Array; share: boolean }
  | { op: 'publish'; channel: string; data: Uint8Array }
  | { op: 'history'; channel: string; limit: number; since?: StreamPosition; reverse: boolean };

/** Answer to a {@link Call}. */
export type Answer =
  | { op: 'rpc'; data: Uint8Array }
  | { op: 'publish' }
  | { op: 'history'; publications: Publication[]; offset: number; epoch: string };

export type ToHub =
  | {
      t: 'hello';
      version: number;
      tab: string;
      /** Web Lock that the tab holds as long as it lives. */
      lock: string | null;
      config: HubConfig;
      visible: boolean;
      channels: { channel: string; options: ChannelOptions }[];
    }
  | { t: 'bye' }
  | { t: 'visible'; visible: boolean }
  | { t: 'subscribe'; channel: string; options: ChannelOptions }
  | { t: 'unsubscribe'; channel: string }
  | { t: 'call'; id: number; call: Call; timeoutMs: number }
  | { t: 'token'; id: number; token: string }
  | { t: 'no-token'; id: number; message: string; unauthorized: boolean }
  | { t: 'ack'; batch: number }
  | { t: 'connect' }
  | { t: 'pong' }
  | { t: 'probe' };

export type ToTab =
  | { t: 'welcome'; hub: string; lock: string | null; heartbeatMs: number; state: HubState }
  | { t: 'refused'; reason: string }
  | { t: 'state'; state: HubState }
  | { t: 'batch'; batch: number; publications: Publication[] }
  | { t: 'channel'; channel: string; event: ChannelEvent }
  | { t: 'answer'; id: number; answer: Answer }
  | { t: 'failure'; id: number; error: CallError }
  | { t: 'token'; id: number; context: TokenContext }
  | { t: 'gone' }
  | { t: 'ping' };
