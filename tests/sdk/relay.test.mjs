// The relay from both ends: clients of either protocol, and an agent that speaks the Stratix JSON.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

import { Events, endSoon, refusal } from './events.mjs';
import { Gateway, expiry, mint } from './gateway.mjs';
import { Link } from './link.mjs';
import { Agent, Client, refusedUpgrade } from './stratix.mjs';

const OPTIONS = { timeout: 30_000 };
const SECRET = 'a secret for clients of the relay, of tests only';
const PERMISSION_DENIED = 103;
const REPLACED = 4500;
const TRANSPORT_CLOSED = 1;

const token = (sub) => mint(SECRET, { sub, exp: expiry(600) });

after(endSoon);

describe('the relay', () => {
  let agent;
  let gateway;
  let client; // a client id of the test's own
  let count = 0;
  const open = [];

  before(async () => {
    agent = await Agent.start();
    gateway = await Gateway.start({
      client: { token: { hmac_secret_key: SECRET } },
      http_api: { key: 'a key of tests only' },
      relay: {
        routes: [
          { client_id_prefix: 'c-', agent: agent.url, protocol: 'stratix', acks: true, try_timeout: '300ms' },
        ],
        retries: { attempts: 1, base: '50ms', max: '100ms' },
        breaker: { failures: 0 },
      },
    });
  });
  after(async () => {
    for (const each of open) each.close();
    await gateway?.remove();
    await agent?.down();
  });
  beforeEach(() => {
    client = `c-${++count}`;
  });

  const connect = async (query = {}) => {
    const given = { clientId: client, ack: 'true', ...query };
    const made = await Client.connect(gateway.address.main, token(given.clientId), given);
    open.push(made);
    return made;
  };

  /** A native client of this test's user that listens to its agent. */
  const native = async (address = gateway.address.main) => {
    const centrifuge = new Centrifuge(`ws://${address}/connection/websocket`, {
      token: token(client),
      websocket: WebSocket,
      minReconnectDelay: 20,
      maxReconnectDelay: 100,
    });
    open.push({ close: () => centrifuge.disconnect() });
    const answers = centrifuge.newSubscription(`agent.${client}`);
    const events = new Events(answers, ['subscribed', 'publication', 'subscribing']);
    answers.subscribe();
    centrifuge.connect();
    await events.next('subscribed');
    return { centrifuge, answers, events };
  };

  const rest = (path, { as = client, ...options } = {}) =>
    fetch(`http://${gateway.address.main}/relay/v1/${path}`, {
      ...options,
      headers: { Authorization: `Bearer ${token(as)}` },
    });
  const post = (message, as) => rest('messages', { as, method: 'POST', body: JSON.stringify(message) });

  /** Asks until the answer is as wanted; the test's own deadline ends it otherwise. */
  const until = async (ask, isWanted) => {
    for (;;) {
      const answer = await ask();
      if (isWanted(answer)) return answer;
    }
  };

  test('acknowledges a message, delivers it and brings the answer', OPTIONS, async () => {
    const ann = await connect();
    ann.send({ type: 0, clientId: 'somebody else', messageId: 'm1', data: 'high tide', contentType: 'text/plain' });
    const ack = await ann.json({ action: 'ack' });
    assert.deepEqual(ack, { type: 2, action: 'ack', messageId: 'm1', level: 'durable' });
    const got = await agent.got('m1');
    assert.equal(got.clientId, client);
    assert.equal(got.data, 'high tide');
    assert.equal(got.contentType, 'text/plain');
    assert.equal(got.route, agent.url);
    assert.ok(got.timestamp > 1.6e18, 'nanoseconds');
    const answer = await ann.json({ messageId: 're-m1' });
    assert.equal(answer.type, 0);
    assert.equal(answer.clientId, client);
    assert.equal(answer.data, 're: high tide');
    assert.equal(answer.inReplyTo, 'm1');
  });

  test('acknowledges at the level that a message asks for', OPTIONS, async () => {
    const ann = await connect();
    ann.send({ messageId: 'level-1', data: 'x', ack: 'delivered' });
    assert.equal((await ann.json({ messageId: 'level-1', action: 'ack' })).level, 'delivered');
    ann.send({ messageId: 'level-2', data: 'x', ack: 'accepted', priority: 'bulk' });
    assert.equal((await ann.json({ messageId: 'level-2', action: 'ack' })).level, 'accepted');
  });

  test('takes a message once, however often it is sent', OPTIONS, async () => {
    const ann = await connect();
    for (const data of ['first', 'again', 'and again']) {
      ann.send({ messageId: 'once', data, ack: 'delivered' });
      await ann.json({ messageId: 'once', action: 'ack' });
    }
    ann.send({ messageId: 'after', data: 'x', ack: 'delivered' });
    await ann.json({ messageId: 'after', action: 'ack' });
    assert.equal(agent.times('once'), 1);
  });

  test('replays the history and says how much it was', OPTIONS, async () => {
    const ann = await connect();
    for (const id of ['h1', 'h2']) {
      ann.send({ messageId: id, data: id });
      await ann.json({ messageId: `re-${id}` });
    }
    ann.close();

    const back = await connect({ loadHistory: 'true' });
    assert.deepEqual(await back.json({ action: 'history_complete' }), {
      type: 2,
      action: 'history_complete',
      total: 4,
      oldestMessageId: 'h1',
      newestMessageId: 're-h2',
    });
    const replayed = back.events.all('json').filter(({ type }) => type === 0);
    assert.deepEqual(replayed.map(({ messageId }) => messageId), ['h1', 're-h1', 'h2', 're-h2']);
    back.close();

    const later = await connect({ loadHistory: 'true', lastMessageId: 're-h1' });
    assert.equal((await later.json({ action: 'history_complete' })).total, 2);
    later.close();

    const least = await connect({ loadHistory: 'true', limit: '1' });
    assert.equal((await least.json({ action: 'history_complete' })).oldestMessageId, 're-h2');
    least.close();

    const stranger = await connect({ clientId: `${client}-new`, loadHistory: 'true' });
    const none = { type: 2, action: 'history_complete', total: 0 };
    assert.deepEqual(await stranger.json({ action: 'history_complete' }), none);
  });

  test('closes the older of two connections of a client', OPTIONS, async () => {
    const older = await connect();
    // Heard, so it is in before the newer one.
    older.send({ messageId: 'older', data: 'x' });
    await older.json({ messageId: 're-older' });
    const newer = await connect();
    assert.equal((await older.events.next('close')).code, REPLACED);
    newer.send({ messageId: 'newer', data: 'x' });
    await newer.json({ messageId: 're-newer' });
  });

  test('refuses what is no message and goes on', OPTIONS, async () => {
    const ann = await connect();
    for (const text of ['{', '[]', '{"type":9}', '{"messageId":7}']) {
      ann.send(text);
      const { type, error, final } = await ann.json({ action: 'error' });
      assert.equal(type, 2);
      assert.equal(final, true);
      assert.ok(error.length > 0);
    }
    ann.send({ messageId: 'good', data: 'x' });
    await ann.json({ messageId: 're-good' });
  });

  test('keeps control messages to itself', OPTIONS, async () => {
    const ann = await connect();
    ann.send({ type: 2, messageId: 'heartbeat', data: 'ping' });
    ann.send({ messageId: 'after-ping', data: 'x' });
    await ann.json({ messageId: 're-after-ping' });
    assert.equal(agent.times('heartbeat'), 0);
    assert.equal(ann.events.all('json').filter(({ messageId }) => messageId === 'heartbeat').length, 0);
  });

  test('puts chunks together and checks their sum', OPTIONS, async () => {
    const ann = await connect();
    const bytes = Buffer.from(Array.from({ length: 5_000 }, (_, index) => index % 251));
    ann.sendChunked('chunked', bytes);
    const got = await agent.got('chunked');
    assert.equal(got.type, 1);
    assert.equal(got.contentType, 'image/png');
    assert.ok(Buffer.from(got.data, 'base64').equals(bytes));
    assert.ok((await ann.events.next('bytes')).equals(bytes), 'the answer is the bare payload');

    ann.sendChunked('damaged', bytes, { checksum: '0'.repeat(64) });
    const { error } = await ann.json({ action: 'error', messageId: 'damaged' });
    assert.match(error, /checksum/);
    assert.equal(agent.times('damaged'), 0);
  });

  test('lets nobody in under a wrong name', OPTIONS, async () => {
    const { main } = gateway.address;
    const denied = { status: 401, body: { error: 'unauthorized' } };
    assert.deepEqual(await refusedUpgrade(main, token('c-other'), { clientId: client }), denied);
    assert.deepEqual(await refusedUpgrade(main, 'nonsense', { clientId: client }), denied);
    const missing = { status: 400, body: { error: 'clientId required' } };
    assert.deepEqual(await refusedUpgrade(main, token(client), {}), missing);
  });

  test('tells a client without a route', OPTIONS, async () => {
    const lost = await connect({ clientId: 'lost' });
    lost.send({ messageId: 'm1', data: 'x' });
    const { error, final } = await lost.json({ action: 'error', messageId: 'm1' });
    assert.match(error, /no route/);
    assert.equal(final, true);
  });

  test('serves clients of the native protocol', OPTIONS, async () => {
    const { centrifuge, answers, events } = await native();
    const rpc = (data) => centrifuge.rpc(`agent.${client}`, data).then((reply) => reply.data);
    const receipt = await rpc({ messageId: 'n1', data: 'by rpc', ack: 'durable' });
    assert.deepEqual(receipt, { messageId: 'n1', level: 'durable' });
    const answer = (await events.next('publication')).data;
    assert.equal(answer.messageId, 're-n1');
    assert.equal(answer.data, 're: by rpc');

    const again = await rpc({ messageId: 'n1', data: 'by rpc' });
    assert.deepEqual(again.duplicate, true);

    await answers.publish({ messageId: 'n2', data: 'by publish' });
    const isSecond = ({ data }) => data.messageId === 're-n2';
    assert.equal((await events.next('publication', isSecond)).data.data, 're: by publish');

    const text = await rpc('just text');
    assert.ok(text.messageId.length > 0, 'a message without an id is given one');
    const isText = ({ data }) => data.data === 're: just text';
    await events.next('publication', isText);
  });

  test('keeps users of the native protocol to their own agent', OPTIONS, async () => {
    const { centrifuge } = await native();
    const other = 'agent.c-other';
    assert.equal(await refusal(centrifuge.rpc(other, { data: 'x' })), PERMISSION_DENIED);
    assert.equal(await refusal(centrifuge.publish(other, { data: 'x' })), PERMISSION_DENIED);
    const foreign = centrifuge.newSubscription(other);
    const events = new Events(foreign, ['unsubscribed']);
    foreign.subscribe();
    assert.equal((await events.next('unsubscribed')).code, PERMISSION_DENIED);
  });

  test('recovers the answers that a native client missed', OPTIONS, async () => {
    const link = await Link.open(() => gateway.address.main);
    open.push(link);
    const { events } = await native(link.address);
    link.cut();
    await events.next('subscribing', ({ channel, code }) => channel && code === TRANSPORT_CLOSED);
    for (const id of ['missed-1', 'missed-2']) {
      const message = { clientId: client, messageId: id, data: id, ack: 'delivered' };
      assert.equal((await post(message)).status, 202);
    }
    const history = () => rest(`history/${client}`).then((response) => response.json());
    await until(history, ({ messages }) => messages.some(({ messageId }) => messageId === 're-missed-2'));
    link.mend();
    const { recovered, wasRecovering } = await events.next('subscribed');
    assert.deepEqual({ recovered, wasRecovering }, { recovered: true, wasRecovering: true });
    for (const id of ['missed-1', 'missed-2']) {
      await events.next('publication', ({ data }) => data.messageId === `re-${id}`);
    }
    assert.equal(events.all('publication').length, 2);
  });

  test('takes messages over REST and tells what became of them', OPTIONS, async () => {
    const taken = await post({ clientId: client, messageId: 'r1', data: 'by REST', ack: 'delivered' });
    assert.equal(taken.status, 202);
    const receipt = await taken.json();
    assert.equal(receipt.messageId, 'r1');
    assert.equal(receipt.level, 'delivered');

    const status = await (await rest(`messages/${client}/r1`)).json();
    assert.equal(status.status, 'delivered');
    assert.equal((await rest(`messages/${client}/never`)).status, 404);

    const read = () => rest(`history/${client}`).then((response) => response.json());
    const { messages } = await until(read, (answer) => answer.messages.length === 2);
    assert.deepEqual(messages.map(({ messageId }) => messageId), ['r1', 're-r1']);

    assert.equal((await post({ clientId: 'c-other', data: 'x' })).status, 401);
    assert.equal((await rest('messages', { method: 'POST', body: '{' })).status, 400);
    assert.equal((await rest(`history/${client}`, { as: 'c-other' })).status, 401);
  });

  test('keeps what an agent did not take, and an operator sends it again', OPTIONS, async () => {
    const ann = await connect();
    agent.isSilent = true;
    try {
      ann.send({ messageId: 'given-up', data: 'x' });
      await ann.json({ action: 'ack', messageId: 'given-up' });
      const told = await ann.json({ action: 'error', messageId: 'given-up' });
      assert.equal(told.final, true);
    } finally {
      agent.isSilent = false;
    }
    assert.equal(agent.times('given-up'), 2, 'one try and one more');
    const status = () => rest(`messages/${client}/given-up`).then((response) => response.json());
    assert.equal((await status()).status, 'dead');

    const given = ['admin-token', '--name', 'ops', '-c', 'tidegate.yaml'];
    const options = { cwd: gateway.folder, env: gateway.environment(), encoding: 'utf8' };
    const Authorization = `Bearer ${execFileSync('tidegate', given, options).trim()}`;
    const admin = (path, method = 'GET') =>
      fetch(`http://${gateway.address.admin}/admin/relay/${path}`, { method, headers: { Authorization } });
    const listed = await (await admin(`dead-letters?client=${client}`)).json();
    const [letter] = Object.values(listed).find(Array.isArray);
    assert.equal(letter.clientId, client);
    assert.ok((await admin(`dead-letters/${letter.id}/replay`, 'POST')).ok);
    await ann.json({ messageId: 're-given-up' });
    await until(status, (now) => now.status === 'delivered');
  });

  test('delivers what was acknowledged before a crash, once its agent is back', OPTIONS, async () => {
    const ann = await connect();
    await agent.down();
    ann.send({ messageId: 'durable', data: 'must not be lost' });
    assert.equal((await ann.json({ action: 'ack' })).level, 'durable');
    await gateway.stop('SIGKILL');
    await gateway.start();
    const back = await connect();
    await agent.up();
    assert.equal((await agent.got('durable')).data, 'must not be lost');
    const answer = await back.json({ messageId: 're-durable' });
    assert.equal(answer.data, 're: must not be lost');
    assert.equal(agent.times('durable'), 1);
  });
});
