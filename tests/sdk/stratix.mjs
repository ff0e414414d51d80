// The two ends of the relay's own dialect: a client and an agent, both small.

import { createHash } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import WebSocket, { WebSocketServer } from 'ws';

import { Events, within } from './events.mjs';

/** A client on a plain WebSocket. Emits `json`, `bytes` and `close`. */
export class Client {
  /** @param {Record<string, string>} query of the address, `clientId` among it */
  static async connect(address, token, query) {
    const client = new Client(address, token, query);
    await within(5_000, `${query.clientId} connects`, once(client.socket, 'open'));
    return client;
  }

  constructor(address, token, query, path = '/relay/ws') {
    const heard = new EventEmitter();
    const parameters = new URLSearchParams(query);
    this.socket = new WebSocket(`ws://${address}${path}?${parameters}`, ['bearer', token]);
    this.socket.on('message', (data, isBinary) => {
      if (isBinary) heard.emit('bytes', data);
      else heard.emit('json', JSON.parse(data));
    });
    this.socket.on('close', (code, reason) => heard.emit('close', { code, reason: String(reason) }));
    this.socket.on('error', () => {}); // what matters is the close after it
    this.events = new Events(heard, ['json', 'bytes', 'close']);
  }

  send(message) {
    this.socket.send(typeof message === 'string' ? message : JSON.stringify(message));
  }

  /** Sends bytes in chunks, with the checksum given or the right one. */
  sendChunked(messageId, bytes, { size = 1024, checksum } = {}) {
    const sum = checksum ?? `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    const count = Math.ceil(bytes.length / size);
    const control = (kind, value) => Buffer.concat([Buffer.of(kind), Buffer.from(JSON.stringify(value))]);
    const start = {
      messageId,
      totalSize: bytes.length,
      chunkCount: count,
      contentType: 'image/png',
      compressed: false,
    };
    this.socket.send(control(1, start));
    for (let index = 0; index < count; index++) {
      const part = bytes.subarray(index * size, (index + 1) * size);
      const header = Buffer.alloc(13);
      header[0] = 2;
      header.writeUInt32BE(index, 1);
      header.writeUInt32BE(hash(messageId), 5);
      header.writeUInt32BE(part.length, 9);
      this.socket.send(Buffer.concat([header, part]));
    }
    this.socket.send(control(3, { messageId, checksum: sum }));
  }

  /** The next JSON message that has everything that `wanted` has. */
  json(wanted) {
    return this.events.next('json', (message) =>
      Object.entries(wanted).every(([key, value]) => message[key] === value),
    );
  }

  close() {
    this.socket.terminate();
  }
}

/** How an upgrade was refused: status and body. */
export async function refusedUpgrade(address, token, query) {
  const { socket } = new Client(address, token, query);
  const refused = once(socket, 'unexpected-response');
  const [, response] = await within(5_000, 'the upgrade is refused', refused);
  const chunks = await response.toArray();
  return { status: response.statusCode, body: JSON.parse(Buffer.concat(chunks)) };
}

/** An agent that acknowledges every message and answers it once. Emits `message`. */
export class Agent {
  static async start() {
    const agent = new Agent();
    await agent.up();
    return agent;
  }

  constructor() {
    this.port = 0;
    this.isSilent = false;
    this.seen = new Set();
    this.heard = new EventEmitter();
    this.events = new Events(this.heard, ['message']);
  }

  get url() {
    return `ws://127.0.0.1:${this.port}/`;
  }

  async up() {
    this.server = new WebSocketServer({ host: '127.0.0.1', port: this.port });
    this.server.on('connection', (socket) => {
      socket.on('error', () => {});
      socket.on('message', (text) => this.#take(socket, JSON.parse(text)));
    });
    await once(this.server, 'listening');
    this.port = this.server.address().port;
  }

  /** Ends every connection and is gone until `up`. */
  async down() {
    for (const socket of this.server.clients) socket.terminate();
    await new Promise((resolve) => this.server.close(resolve));
  }

  /** The message of that id, when it has come. */
  got(messageId) {
    return this.events.next('message', (message) => message.messageId === messageId);
  }

  /** How often a message has come. */
  times(messageId) {
    return this.events.all('message').filter((message) => message.messageId === messageId).length;
  }

  #take(socket, message) {
    this.heard.emit('message', message);
    if (this.isSilent) return;
    const { clientId, messageId, type, data } = message;
    socket.send(JSON.stringify({ type: 2, action: 'ack', clientId, messageId }));
    const key = JSON.stringify([clientId, messageId]);
    if (this.seen.has(key)) return;
    this.seen.add(key);
    const answer = type === 1 ? data : `re: ${data}`;
    const sent = { type, clientId, messageId: `re-${messageId}`, inReplyTo: messageId, data: answer };
    socket.send(JSON.stringify(sent));
  }
}

/** The hash of the chunk protocol. */
function hash(text) {
  let value = 0;
  for (const character of text) value = (Math.imul(31, value) + character.codePointAt(0)) >>> 0;
  return value;
}
