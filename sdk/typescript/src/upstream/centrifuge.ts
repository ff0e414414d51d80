// The connection by the official client of the protocol, in its Protobuf encoding.

import { Centrifuge, UnauthorizedError } from 'centrifuge/build/protobuf';

import type { Answer, Call, Publication, StreamPosition } from '../messages.js';
import {
  CODES,
  CallFailure,
  Unauthorized,
  type OpenUpstream,
  type Upstream,
  type UpstreamEvents,
} from '../upstream.js';

/** The longest wait for a transport or an answer of the server, in milliseconds. */
const TIMEOUT_MS = 5000;
/** The shortest wait before the next attempt to connect, in milliseconds. */
const MIN_RECONNECT_DELAY_MS = 100;

/** Opens nothing before {@link Upstream.connect}. */
export const openCentrifuge: OpenUpstream = (config, events): Upstream => {
  const client = new Centrifuge(endpoint(config.url), {
    name: config.name,
    version: config.version,
    timeout: TIMEOUT_MS,
    minReconnectDelay: MIN_RECONNECT_DELAY_MS,
    maxReconnectDelay: config.maxReconnectDelayMs,
    getToken: config.token ? () => translated(events.connectionToken()) : null,
  });
  client.on('connecting', (context) => events.connecting(context.code, context.reason));
  client.on('connected', (context) => events.connected(context.client));
  client.on('disconnected', (context) => events.disconnected(context.code, context.reason));
  client.on('error', ({ error }) => events.failed(error.code, error.message));
  return {
    connect: () => client.connect(),
    disconnect: () => client.disconnect(),
    subscribe: (channel, options, told) => subscribe(client, events, channel, options, told),
    call: (call, timeoutMs) => withDeadline(answer(client, call), timeoutMs),
  };
};

/** The address with the encoding that this client speaks. */
export function endpoint(url: string): string {
  const address = new URL(url);
  address.searchParams.set('cf_protocol', 'protobuf');
  return address.href;
}

function subscribe(
  client: Centrifuge,
  events: UpstreamEvents,
  channel: string,
  options: Parameters<Upstream['subscribe']>[1],
  told: Parameters<Upstream['subscribe']>[2],
): ReturnType<Upstream['subscribe']> {
  const given: Parameters<Centrifuge['newSubscription']>[1] = {
    positioned: options.positioned ?? false,
    recoverable: options.recoverable ?? false,
    joinLeave: options.joinLeave ?? false,
  };
  if (options.since !== undefined) given.since = options.since;
  if (options.data !== undefined) given.data = options.data;
  if (options.token === true) given.getToken = () => translated(events.subscriptionToken(channel));
  // One that was given up a moment ago may still be registered.
  client.removeSubscription(client.getSubscription(channel));
  const subscription = client.newSubscription(channel, given);
  subscription.on('subscribing', ({ code, reason }) => told.event({ event: 'subscribing', code, reason }));
  subscription.on('unsubscribed', ({ code, reason }) => told.event({ event: 'unsubscribed', code, reason }));
  subscription.on('error', ({ error }) =>
    told.event({ event: 'error', code: error.code, message: error.message }),
  );
  subscription.on('subscribed', (context) =>
    told.event({
      event: 'subscribed',
      recoverable: context.recoverable,
      positioned: context.positioned,
      wasRecovering: context.wasRecovering,
      recovered: context.recovered,
      position: position(context.streamPosition),
      data: context.data === undefined ? undefined : owned(context.data),
    }),
  );
  subscription.on('publication', (context) => told.publication(publication(context, channel)));
  for (const event of ['join', 'leave'] as const) {
    subscription.on(event, ({ info }) => told.event({ event, client: info.client, user: info.user }));
  }
  subscription.subscribe();
  return {
    unsubscribe() {
      subscription.removeAllListeners();
      client.removeSubscription(subscription);
    },
  };
}

async function answer(client: Centrifuge, call: Call): Promise<Answer> {
  try {
    switch (call.op) {
      case 'rpc':
        return { op: 'rpc', data: owned((await client.rpc(call.method, call.data)).data) };
      case 'publish':
        await client.publish(call.channel, call.data);
        return { op: 'publish' };
      case 'history': {
        const { channel, limit, since, reverse } = call;
        const found = await client.history(channel, since ? { limit, since, reverse } : { limit, reverse });
        const publications = found.publications.map((item) => publication(item, channel));
        return { op: 'history', publications, offset: Number(found.offset), epoch: found.epoch };
      }
    }
  } catch (error) {
    const { code, message } = error as { code?: unknown; message?: unknown };
    throw new CallFailure(typeof code === 'number' ? code : CODES.lost, String(message ?? error));
  }
}

function publication(
  context: { data: unknown; offset?: number; tags?: Record<string, string> },
  channel: string,
): Publication {
  const made: Publication = { channel, data: owned(context.data) };
  if (context.offset) made.offset = Number(context.offset);
  if (context.tags && Object.keys(context.tags).length > 0) made.tags = { ...context.tags };
  return made;
}

function position(given: StreamPosition | undefined): StreamPosition | undefined {
  return given && { offset: Number(given.offset), epoch: given.epoch };
}

/** Bytes of their own: a view into a frame would take the whole frame along to every tab. */
function owned(data: unknown): Uint8Array {
  return data instanceof Uint8Array ? data.slice() : new Uint8Array();
}

function translated(token: Promise<string>): Promise<string> {
  return token.catch((error: unknown) => {
    throw error instanceof Unauthorized ? new UnauthorizedError(error.message) : error;
  });
}

function withDeadline<T>(work: Promise<T>, ms: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new CallFailure(CODES.deadline, 'no answer in time')), ms);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
