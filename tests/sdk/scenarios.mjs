// What the official SDK must see, whatever the transport, the encoding and the place it runs in.
//
// A scenario gets a `World`: `client` and `subscribe` make SDK objects, `control` is what only the
// outside of the client can do: mint tokens, publish from the server, cut the network, restart.
// The same file runs in Node and, served to it, in Chromium.

import { Events, equal, ok, refusal } from './events.mjs';

const CLIENT_EVENTS = ['connecting', 'connected', 'disconnected', 'error'];
const SUBSCRIPTION_EVENTS = [
  'subscribing', 'subscribed', 'unsubscribed', 'publication', 'join', 'leave', 'error',
];
const SHUTDOWN = 3001;
const INVALID_TOKEN = 3500;
const BAD_REQUEST = 3501;

/** One scenario's view of the gateway. */
class World {
  #clients = [];

  constructor({ Centrifuge, options, transport, encoding, control, name }) {
    Object.assign(this, { Centrifuge, options, transport, encoding, control });
    this.channel = `chat:${name.replaceAll(' ', '-')}`;
  }

  /** A client that has been told to connect, with the events it emits. */
  client(options) {
    const client = new this.Centrifuge(this.options.transports, {
      ...this.options.client,
      minReconnectDelay: 20,
      maxReconnectDelay: 200,
      ...options,
    });
    this.#clients.push(client);
    const events = new Events(client, CLIENT_EVENTS);
    client.connect();
    return { client, events };
  }

  /** A connected client of this user. */
  async connected(user) {
    const made = this.client({ token: await this.control('connectionToken', user) });
    made.hello = await made.events.next('connected');
    return made;
  }

  /** A subscription that has been told to subscribe, with the events it emits. */
  subscription(client, channel = this.channel, options = {}) {
    const subscription = client.newSubscription(channel, options);
    const events = new Events(subscription, SUBSCRIPTION_EVENTS);
    subscription.subscribe();
    return { subscription, events };
  }

  async subscribed(client, channel, options) {
    const made = this.subscription(client, channel, options);
    made.reply = await made.events.next('subscribed');
    return made;
  }

  /** A payload in the client's encoding. */
  data(value) {
    return this.encoding === 'json' ? value : new TextEncoder().encode(JSON.stringify(value));
  }

  /** The value of a payload that was received. */
  value(data) {
    return this.encoding === 'json' ? data : JSON.parse(new TextDecoder().decode(data));
  }

  close() {
    for (const client of this.#clients) client.disconnect();
  }
}

const scenarios = {
  async 'connects with a token'(world) {
    const { client, hello } = await world.connected('ann');
    ok(/^[0-9a-f-]{36}$/.test(hello.client), 'a connection id');
    equal(hello.transport, world.transport, 'the transport in use');
    client.disconnect();
  },

  async 'is refused with a wrong token or none'(world) {
    const wrong = world.client({ token: await world.control('foreignToken', 'ann') });
    equal((await wrong.events.next('disconnected')).code, INVALID_TOKEN, 'wrong token');
    const none = world.client({});
    equal((await none.events.next('disconnected')).code, BAD_REQUEST, 'no token');
  },

  async 'refreshes its token and stays'(world) {
    let asked = 0;
    const { promise: renewed, resolve } = deferred();
    const { events } = world.client({
      token: await world.control('connectionToken', 'ann', 2),
      // The second call proves the first refresh: its reply carried the lifetime that led here.
      getToken: async () => {
        asked += 1;
        if (asked === 2) resolve();
        return world.control('connectionToken', 'ann', asked === 1 ? 2 : 600);
      },
    });
    await events.next('connected');
    await renewed;
    equal(events.all('connecting').length, 1, 'connection attempts');
    equal(events.all('disconnected').length, 0, 'disconnects');
  },

  async 'asks for a new token when the first has expired'(world) {
    let asked = 0;
    const { events } = world.client({
      token: await world.control('connectionToken', 'ann', -5),
      getToken: async () => {
        asked += 1;
        return world.control('connectionToken', 'ann');
      },
    });
    await events.next('connected');
    equal(asked, 1, 'tokens asked for');
  },

  async 'subscribes with a subscription token'(world) {
    const channel = world.channel.replace('chat:', 'vault:');
    const { client } = await world.connected('ann');
    const without = world.subscription(client, channel);
    equal((await without.events.next('unsubscribed')).code, 103, 'without token');
    client.removeSubscription(without.subscription);

    const mine = world.subscription(client, channel, {
      getToken: () => world.control('subscriptionToken', 'ann', channel),
    });
    await mine.events.next('subscribed');
    client.removeSubscription(mine.subscription);

    const foreign = world.client({ token: await world.control('connectionToken', 'bob') });
    await foreign.events.next('connected');
    world.subscription(foreign.client, channel, {
      token: await world.control('subscriptionToken', 'ann', channel),
    });
    equal((await foreign.events.next('disconnected')).code, INVALID_TOKEN, "another's token");
  },

  async 'refreshes its subscription token and stays'(world) {
    const channel = world.channel.replace('chat:', 'vault:');
    const { client } = await world.connected('ann');
    let asked = 0;
    const { promise: renewed, resolve } = deferred();
    const { events } = world.subscription(client, channel, {
      getToken: async () => {
        asked += 1;
        if (asked === 3) resolve();
        return world.control('subscriptionToken', 'ann', channel, asked < 3 ? 2 : 600);
      },
    });
    await events.next('subscribed');
    await renewed;
    equal(events.all('subscribing').length, 1, 'subscription attempts');
  },

  async 'publishes and receives'(world) {
    const [ann, bob] = [await world.connected('ann'), await world.connected('bob')];
    const [hers, his] = [await world.subscribed(ann.client), await world.subscribed(bob.client)];
    await hers.subscription.publish(world.data({ text: 'hello, wörld 🌊' }));
    for (const { events } of [hers, his]) {
      const got = await events.next('publication');
      equal(world.value(got.data), { text: 'hello, wörld 🌊' }, 'payload');
      equal([got.info.user, got.info.client], ['ann', ann.hello.client], 'publisher');
      equal(Number(got.offset), 1, 'offset');
    }
    await world.control('publish', world.channel, { text: 'from the server' });
    const got = await his.events.next('publication');
    equal([world.value(got.data), Number(got.offset)], [{ text: 'from the server' }, 2], 'server');
    ok(got.info === undefined, 'no publisher on a publication of the server');
  },

  async 'reads history'(world) {
    const { client } = await world.connected('ann');
    const { subscription } = await world.subscribed(client);
    for (const n of [1, 2, 3, 4]) await subscription.publish(world.data({ n }));
    const read = async (options) => {
      const result = await subscription.history(options);
      equal(Number(result.offset), 4, 'top of the stream');
      return [result.epoch, result.publications.map((one) => world.value(one.data).n)];
    };
    const [epoch, all] = await read({ limit: -1 });
    ok(epoch.length > 0, 'an epoch');
    equal(all, [1, 2, 3, 4], 'all');
    equal((await read({ limit: 2 }))[1], [1, 2], 'limited');
    equal((await read({ limit: 2, reverse: true }))[1], [4, 3], 'backwards');
    equal((await read({ limit: 9, since: { offset: 2, epoch } }))[1], [3, 4], 'since');
    equal((await read({}))[1], [], 'position only');
    const other = subscription.history({ limit: 9, since: { offset: 2, epoch: 'other' } });
    equal(await refusal(other), 112, 'of another epoch');
  },

  async 'sees presence'(world) {
    const [ann, bob] = [await world.connected('ann'), await world.connected('bob')];
    const { subscription } = await world.subscribed(ann.client);
    await world.subscribed(bob.client);
    const { clients } = await subscription.presence();
    const users = [ann, bob].map(({ hello }) => clients[hello.client]?.user);
    equal(users, ['ann', 'bob'], 'who is there');
    const stats = await subscription.presenceStats();
    equal([stats.numClients, stats.numUsers], [2, 2], 'how many');
  },

  async 'sees others join and leave'(world) {
    const [ann, bob] = [await world.connected('ann'), await world.connected('bob')];
    const { events } = await world.subscribed(ann.client);
    const ofBob = ({ info }) => info.client === bob.hello.client;
    const his = await world.subscribed(bob.client);
    equal((await events.next('join', ofBob)).info.user, 'bob', 'joined');
    his.subscription.unsubscribe();
    equal((await events.next('leave', ofBob)).info.user, 'bob', 'left');
    his.subscription.subscribe();
    await events.next('join', ofBob);
    bob.client.disconnect();
    await events.next('leave', ofBob);
  },

  async 'recovers after a network cut, nothing missed, nothing twice'(world) {
    const { client, events: connection } = await world.connected('ann');
    const { events } = await world.subscribed(client);
    await world.control('publish', world.channel, { n: 1 });
    await events.next('publication');
    await world.control('cut');
    await connection.next('connecting', ({ code }) => code !== 0);
    for (const n of [2, 3, 4]) await world.control('publish', world.channel, { n });
    await world.control('mend');
    const again = await events.next('subscribed');
    equal([again.wasRecovering, again.recovered], [true, true], 'recovery');
    await world.control('publish', world.channel, { n: 5 });
    await events.next('publication', ({ offset }) => Number(offset) === 5);
    const got = events.all('publication');
    equal(got.map(({ data }) => world.value(data).n), [1, 2, 3, 4, 5], 'received');
    equal(got.map(({ offset }) => Number(offset)), [1, 2, 3, 4, 5], 'offsets');
  },

  async 'is told honestly that a restart lost the stream'(world) {
    const { client } = await world.connected('ann');
    const { events, reply } = await world.subscribed(client);
    await world.control('publish', world.channel, { n: 1 });
    await events.next('publication');
    await world.control('crash');
    await world.control('start');
    const again = await events.next('subscribed');
    equal([again.wasRecovering, again.recovered], [true, false], 'recovery');
    ok(again.streamPosition.epoch !== reply.streamPosition.epoch, 'a new epoch');
    await world.control('publish', world.channel, { n: 2 });
    const got = await events.next('publication');
    equal([world.value(got.data).n, Number(got.offset)], [2, 1], 'the new stream');
  },

  async 'gets the error of an rpc'(world) {
    const { client } = await world.connected('ann');
    equal(await refusal(client.rpc('no.such.method', world.data({}))), 104, 'unknown method');
    await client.rpc('ping', world.data({}));
  },

  async 'is drained and comes back'(world) {
    const { client, events: connection } = await world.connected('ann');
    const { events } = await world.subscribed(client);
    const ended = world.control('drain');
    equal((await connection.next('connecting', ({ code }) => code !== 0)).code, SHUTDOWN, 'code');
    equal((await ended).code, 0, 'exit code of the gateway');
    await world.control('start');
    await connection.next('connected');
    await events.next('subscribed');
    await world.control('publish', world.channel, { n: 1 });
    await events.next('publication');
    equal(connection.all('disconnected').length, 0, 'final disconnects');
  },
};

/** The names, in the order they run. */
export const names = Object.keys(scenarios);

/** Runs one scenario; throws what did not hold. */
export async function run(name, setting) {
  const world = new World({ ...setting, name });
  try {
    await scenarios[name](world);
  } finally {
    world.close();
  }
}

function deferred() {
  let resolve;
  const promise = new Promise((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
