// The relay where it refuses: signatures, a full buffer, sizes, rates; and on a listener of its own.

import assert from 'node:assert/strict';
import { createHash, createHmac, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';

import { endSoon } from './events.mjs';
import { Gateway, expiry, mint } from './gateway.mjs';
import { Agent, Client } from './stratix.mjs';

const OPTIONS = { timeout: 30_000 };
const SECRET = 'a secret for clients of the relay, of tests only';
const KEY = { id: 'backend', secret: 'a secret for signatures, of tests only' };
const FULL = 111;
const PERMISSION_DENIED = 103;

const token = (sub) => mint(SECRET, { sub, exp: expiry(600) });

/** What a signature covers, signed. */
function sign({ timestamp = Date.now(), nonce = randomUUID(), client, messageId, payload }) {
  const digest = createHash('sha256').update(payload).digest('hex');
  const signed = ['v1', timestamp, nonce, client, messageId, digest].join('\n');
  const signature = createHmac('sha256', KEY.secret).update(signed).digest('hex');
  return { timestamp, nonce, signature };
}

after(endSoon);

describe('the relay with limits', () => {
  let agent;
  const gateways = [];
  const clients = [];

  before(async () => {
    agent = await Agent.start();
  });
  after(async () => {
    for (const client of clients) client.close();
    for (const gateway of gateways) await gateway.remove();
    await agent?.down();
  });

  const start = async (relay, more = {}) => {
    const route = { client_id_prefix: '', agent: agent.url, protocol: 'stratix', acks: true };
    const gateway = await Gateway.start({
      client: { token: { hmac_secret_key: SECRET } },
      relay: { routes: [route], ...relay },
      ...more,
    });
    gateways.push(gateway);
    return gateway;
  };
  const connect = async (gateway, clientId, query = {}) => {
    const given = { clientId, ack: 'true', ...query };
    const client = await Client.connect(gateway.address.main, token(clientId), given);
    clients.push(client);
    return client;
  };

  test('takes only what is signed, and each signature once', OPTIONS, async () => {
    const gateway = await start({ signatures: { mode: 'required', keys: [KEY] } });
    const ann = await connect(gateway, 'ann');
    const signed = (messageId, data, given = {}) => {
      const made = sign({ client: 'ann', messageId, payload: data, ...given });
      return { messageId, data, keyId: KEY.id, ...made };
    };
    const refused = async (message) => {
      ann.send(message);
      const told = await ann.json({ action: 'error', messageId: message.messageId });
      assert.equal(told.code, PERMISSION_DENIED, told.error);
      assert.equal(agent.times(message.messageId), 0);
    };

    ann.send(signed('s1', 'high "tide"\n'));
    await ann.json({ action: 'ack', messageId: 's1' });
    // In nanoseconds, as the message format has it.
    const at = Date.now();
    const inNanoseconds = `${at}123456`;
    const text = JSON.stringify({ ...signed('s2', 'x', { timestamp: at }), timestamp: 0 });
    ann.send(text.replace('"timestamp":0', `"timestamp":${inNanoseconds}`));
    await ann.json({ action: 'ack', messageId: 's2' });

    await refused({ messageId: 's3', data: 'unsigned' });
    await refused({ ...signed('s4', 'x'), data: 'y' });
    await refused({ ...signed('s5', 'x'), keyId: 'nobody' });
    await refused(signed('s6', 'x', { timestamp: Date.now() - 3_600_000 }));
    await refused({ ...signed('s7', 'x', { client: 'bob' }) });
    const nonce = randomUUID();
    ann.send(signed('s8', 'x', { nonce }));
    await ann.json({ action: 'ack', messageId: 's8' });
    await refused(signed('s9', 'x', { nonce }));

    const body = JSON.stringify({ clientId: 'bob', messageId: 'r1', data: 'x' });
    const post = (headers) =>
      fetch(`http://${gateway.address.main}/relay/v1/messages`, { method: 'POST', headers, body });
    const made = sign({ client: 'bob', messageId: 'r1', payload: body });
    const headers = {
      'x-relay-key': KEY.id,
      'x-relay-timestamp': String(made.timestamp),
      'x-relay-nonce': made.nonce,
      'x-relay-signature': made.signature,
    };
    assert.equal((await post(headers)).status, 202);
    assert.equal((await post(headers)).status, 401, 'the nonce is used up');
    assert.equal((await post({ Authorization: `Bearer ${token('bob')}` })).status, 401);
  });

  test('drops the oldest when the buffer is full, and says so', OPTIONS, async () => {
    const gateway = await start({ buffer: { size: 3 } });
    const ann = await connect(gateway, 'full-oldest');
    await agent.down();
    try {
      for (const id of ['d1', 'd2', 'd3', 'd4']) {
        ann.send({ messageId: id, data: id });
        await ann.json({ action: 'ack', messageId: id });
      }
      const told = await ann.json({ action: 'error', messageId: 'd1' });
      assert.equal(told.final, true);
    } finally {
      await agent.up();
    }
    for (const id of ['d2', 'd3', 'd4']) await agent.got(id);
    assert.equal(agent.times('d1'), 0);
  });

  test('refuses the newest when the buffer is full, if told to', OPTIONS, async () => {
    const gateway = await start({ buffer: { size: 2, overflow: 'reject' } });
    const ann = await connect(gateway, 'full-newest');
    await agent.down();
    try {
      for (const id of ['j1', 'j2']) {
        ann.send({ messageId: id, data: id });
        await ann.json({ action: 'ack', messageId: id });
      }
      ann.send({ messageId: 'j3', data: 'j3' });
      const told = await ann.json({ action: 'error', messageId: 'j3' });
      assert.deepEqual({ code: told.code, final: told.final }, { code: FULL, final: false });
    } finally {
      await agent.up();
    }
    for (const id of ['j1', 'j2']) await agent.got(id);
    await ann.json({ messageId: 're-j2' });
    // The same message again, now that there is room.
    ann.send({ messageId: 'j3', data: 'j3' });
    await ann.json({ messageId: 're-j3' });
  });

  test('refuses what is too large or too much', OPTIONS, async () => {
    const gateway = await start({ message_size_max: 1_000, rate: { per_client: { rate: 1, burst: 3 } } });
    const ann = await connect(gateway, 'limited');
    ann.send({ messageId: 'large', data: 'x'.repeat(2_000) });
    const large = await ann.json({ action: 'error', messageId: 'large' });
    assert.equal(large.final, true);
    for (let index = 0; index < 5; index++) ann.send({ messageId: `rate-${index}`, data: 'x' });
    const rate = await ann.json({ action: 'error', code: FULL });
    assert.equal(rate.final, false);
  });

  test('serves the bare paths on a listener of its own', OPTIONS, async () => {
    const gateway = await start({ auth: 'none' }, { listeners: { relay: { address: '127.0.0.1:0' } } });
    const line = () => gateway.log.find((line) => line.includes('"listener":"relay"'));
    while (line() === undefined) await once(gateway.child.stderr, 'data');
    const { address } = JSON.parse(line());
    const health = await fetch(`http://${address}/health`);
    assert.deepEqual(await health.json(), { status: 'ok' });

    const ann = new Client(address, 'none', { clientId: 'open', ack: 'true' }, '/ws');
    clients.push(ann);
    await once(ann.socket, 'open');
    ann.send({ messageId: 'o1', data: 'x', ack: 'delivered' });
    await ann.json({ messageId: 'o1', action: 'ack' });
    await ann.json({ messageId: 're-o1' });

    const metrics = await (await fetch(`http://${address}/metrics`)).json();
    const keys = ['connectionsTotal', 'connectionsActive', 'messagesReceived', 'messagesSent'];
    for (const key of keys) assert.equal(metrics[key], 1, key);
    for (const key of ['messagesFailed', 'bytesReceived', 'bytesSent', 'uptimeSeconds']) {
      assert.ok(Number.isInteger(metrics[key]), key);
    }
  });
});
