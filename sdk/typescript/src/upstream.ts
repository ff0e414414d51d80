// The one connection to the gateway, as the hub sees it.

import type { Answer, Call, ChannelEvent, ChannelOptions, HubConfig, Publication } from './messages.js';

export interface Upstream {
  /** Starts to connect and keeps connected; harmless when it does already. */
  connect(): void;
  disconnect(): void;
  /** Subscribes, now and after every reconnect. */
  subscribe(channel: string, options: ChannelOptions, events: ChannelEvents): UpstreamChannel;
  /** @throws {CallFailure} */
  call(call: Call, timeoutMs: number): Promise<Answer>;
}

export interface UpstreamChannel {
  unsubscribe(): void;
}

export interface ChannelEvents {
  event(event: ChannelEvent): void;
  publication(publication: Publication): void;
}

export interface UpstreamEvents {
  connecting(code: number, reason: string): void;
  connected(clientId: string): void;
  /** An attempt has failed; there will be others. */
  failed(code: number, reason: string): void;
  /** For good: only {@link Upstream.connect} tries again. */
  disconnected(code: number, reason: string): void;
  /** @throws {Unauthorized} when there is none to be had; anything else means: try later */
  connectionToken(): Promise<string>;
  /** As for the connection. */
  subscriptionToken(channel: string): Promise<string>;
}

export type OpenUpstream = (config: HubConfig, events: UpstreamEvents) => Upstream;

/** A call that came to nothing. */
export class CallFailure extends Error {
  override readonly name = 'CallFailure';
  /**
   * @param code of the server from 100 on; below it of the client (1 deadline, 2 connection lost)
   */
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

/** Thrown by `getToken` when this user may not connect: the connection is given up. */
export class Unauthorized extends Error {
  override readonly name = 'Unauthorized';
}

/** Codes of {@link CallFailure} that do not come from the server. */
export const CODES = { deadline: 1, lost: 2, closed: 3, full: 4 } as const;
