// The plain market page: one Centrifuge connection in Protobuf, read and written by hand.
//
// It needs no build and no library, so the few messages it speaks are spelled out here. What the
// built page does better: one connection for all tabs, recovery, a budget per frame.

const GROUPS = Array.from({ length: 10 }, (_, index) => `g${String(index).padStart(2, '0')}`);
const RETRY_MS = { first: 250, most: 5_000 };
const PING_GRACE_MS = 10_000;
const SNAPSHOT_WAIT_MS = 2_000;
const TICKS_HELD = 256;

// ---- Protobuf, as much of it as is needed ----

const utf8 = { encode: new TextEncoder(), decode: new TextDecoder() };

function varint(number) {
  const bytes = [];
  for (; number > 127; number = Math.floor(number / 128)) bytes.push((number % 128) | 128);
  bytes.push(number);
  return bytes;
}

const bytesField = (tag, bytes) => [...varint(tag * 8 + 2), ...varint(bytes.length), ...bytes];
const textField = (tag, text) => bytesField(tag, utf8.encode.encode(text));
const numberField = (tag, number) => [...varint(tag * 8), ...varint(number)];

/** Reads one number; beyond 2^53 it is rounded, which volumes bear. */
function readVarint(from) {
  let [value, scale] = [0, 1];
  for (let length = 0; length < 10; length++) {
    const byte = from.bytes[from.at++];
    if (byte === undefined) throw new Error('message is cut off');
    value += (byte & 127) * scale;
    if (byte < 128) return value;
    scale *= 128;
  }
  throw new Error('number is too long');
}

/** The fields of a message in order: `[tag, value]`, texts and messages as bytes. */
function* fields(bytes) {
  const from = { bytes, at: 0 };
  while (from.at < bytes.length) {
    const key = readVarint(from);
    const [tag, wire] = [Math.floor(key / 8), key % 8];
    if (wire === 0) {
      yield [tag, readVarint(from)];
      continue;
    }
    const length = wire === 2 ? readVarint(from) : { 1: 8, 5: 4 }[wire];
    if (length === undefined || from.at + length > bytes.length) throw new Error('message is broken');
    const part = bytes.subarray(from.at, from.at + length);
    from.at += length;
    yield [tag, wire === 1 ? new DataView(part.buffer, part.byteOffset, 8).getFloat64(0, true) : part];
  }
}

/** A message as an object; `shape` maps tags to `[name, how to read it]`, what it lacks is skipped. */
function read(shape, bytes) {
  const message = {};
  for (const [tag, value] of fields(bytes)) {
    const [name, how, many] = shape[tag] ?? [];
    if (!name) continue;
    const made = how ? how(value) : value;
    if (many) (message[name] ??= []).push(made);
    else message[name] = made;
  }
  return message;
}

const text = (bytes) => utf8.decode.decode(bytes);
const of = (shape) => (bytes) => read(shape, bytes);

const FAULT = { 1: ['code'], 2: ['message', text], 3: ['temporary'] };
const PUBLICATION = { 4: ['data'] };
const PUSH = { 2: ['channel', text], 4: ['pub', of(PUBLICATION)], 7: ['unsubscribe', of({ 2: ['code'] })] };
const CONNECTED = { 4: ['ttl'], 7: ['ping'], 8: ['pong'] };
const REPLY = {
  1: ['id'], 2: ['error', of(FAULT)], 4: ['push', of(PUSH)], 5: ['connect', of(CONNECTED)],
  6: ['subscribe', of({ 7: ['publications', of(PUBLICATION), true] })], 13: ['rpc', of({ 1: ['data'] })],
};
const TICK = { 2: ['symbol', text], 3: ['price'], 4: ['volume'] };
const TICKS = { 1: ['group', text], 2: ['seq'], 4: ['ticks', of(TICK), true] };
const QUOTE = { 2: ['symbol', text], 3: ['bid'], 4: ['ask'], 7: ['last'], 8: ['volume'] };
const SNAPSHOTS = { 1: ['group', text], 2: ['seq'], 4: ['snapshots', of(QUOTE), true] };

// ---- The market: snapshots, and the ticks that follow them ----

const quotes = new Map();
const changed = new Set();
const groups = new Map(GROUPS.map((group) => [group, { seq: null, held: [], asked: false }]));
const counts = { updates: 0, gaps: 0 };

function quote(symbol) {
  if (!quotes.has(symbol)) quotes.set(symbol, { symbol, volume: 0 });
  changed.add(symbol);
  return quotes.get(symbol);
}

function snapshot({ group, seq = 0, snapshots = [] }) {
  const state = groups.get(group);
  if (!state) return;
  // An older one than what is known is late, unless the stream has begun anew.
  if (state.seq !== null && seq < state.seq && !state.anew) return;
  for (const { symbol, bid, ask, last, volume = 0 } of snapshots) {
    Object.assign(quote(symbol), { bid, ask, last, volume });
  }
  Object.assign(state, { seq, anew: false });
  const held = state.held.splice(0);
  for (const batch of held) if ((batch.seq ?? 0) > seq) ticks(batch);
}

function ticks(batch) {
  const { group, seq = 0, ticks = [] } = batch;
  const state = groups.get(group);
  if (!state) return;
  if (state.seq !== null && !state.anew && seq <= state.seq) {
    if (state.seq - seq < TICKS_HELD) return;
    state.anew = true;
  }
  if (state.seq === null || state.anew || seq !== state.seq + 1) {
    if (state.seq !== null && state.held.length === 0) counts.gaps++;
    state.held.push(batch);
    if (state.held.length > TICKS_HELD) state.held.shift();
    ask(group);
    return;
  }
  state.seq = seq;
  for (const { symbol, price, volume = 0 } of ticks) {
    const known = quote(symbol);
    known.direction = Math.sign(price - (known.last ?? price)) || known.direction;
    known.last = price;
    known.volume += volume;
    counts.updates++;
  }
}

// ---- The connection ----

let socket = null;
let failures = 0;
let lastId = 0;
let silence = null;
let session = {};
const waiting = new Map();

function command(tag, request, settle) {
  if (socket?.readyState !== WebSocket.OPEN) return;
  const id = ++lastId;
  if (settle) waiting.set(id, settle);
  const body = [...numberField(1, id), ...bytesField(tag, request)];
  socket.send(new Uint8Array([...varint(body.length), ...body]));
}

function ask(group) {
  const state = groups.get(group);
  if (state.asked) return;
  state.asked = true;
  const again = setTimeout(() => { state.asked = false; }, SNAPSHOT_WAIT_MS);
  const request = [...bytesField(1, utf8.encode.encode(JSON.stringify({ group }))), ...textField(2, 'md.snapshot')];
  command(13, request, ({ rpc }) => {
    clearTimeout(again);
    // A refusal may be for a moment only; a snapshot comes by itself every few seconds.
    if (rpc?.data) state.asked = false;
    else setTimeout(() => { state.asked = false; }, SNAPSHOT_WAIT_MS);
    if (rpc?.data) snapshot(read(SNAPSHOTS, rpc.data));
  });
}

function published(channel, { data }) {
  if (!data) return;
  if (channel.startsWith('xy.md.tick.')) ticks(read(TICKS, data));
  else if (channel.startsWith('xy.md.snapshot.')) snapshot(read(SNAPSHOTS, data));
}

function answered(reply) {
  const { id, push } = reply;
  if (id) {
    const settle = waiting.get(id);
    waiting.delete(id);
    settle?.(reply);
  } else if (push?.pub) {
    published(push.channel, push.pub);
  } else if (push?.unsubscribe) {
    socket?.close();
  } else if (!push && session.pong) {
    socket?.send(new Uint8Array([0]));
  }
}

function heard() {
  clearTimeout(silence);
  if (session.ping) silence = setTimeout(() => socket?.close(), session.ping * 1_000 + PING_GRACE_MS);
}

function greet(token) {
  command(4, [...textField(1, token), ...textField(4, 'market-plain')], ({ connect, error }) => {
    if (error) {
      say('disconnected', error.message);
      socket?.close();
      return;
    }
    session = connect ?? {};
    failures = 0;
    say('connected', 'connected');
    for (const group of GROUPS) {
      for (const channel of [`xy.md.snapshot.${group}`, `xy.md.tick.${group}`]) {
        command(5, textField(1, channel), ({ error: refused, subscribe }) => {
          if (refused) say('disconnected', `${channel}: ${refused.message}`);
          for (const publication of subscribe?.publications ?? []) published(channel, publication);
        });
      }
      ask(group);
    }
  });
}

async function open() {
  say('connecting', 'connecting');
  let token = '';
  try {
    const response = await fetch('/demo/token', { method: 'POST' });
    if (response.status === 404 || response.status === 403) {
      say('disconnected', 'the demo is off, and with it the tokens for this page (demo.enabled)');
      return;
    }
    if (!response.ok) throw new Error(`no token: HTTP ${response.status}`);
    ({ token } = await response.json());
  } catch {
    retry();
    return;
  }
  const url = new URL('/connection/websocket?cf_protocol=protobuf', location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  const opened = new WebSocket(url);
  socket = opened;
  opened.binaryType = 'arraybuffer';
  opened.onopen = () => greet(token);
  opened.onmessage = ({ data }) => {
    heard();
    const from = { bytes: new Uint8Array(data), at: 0 };
    while (from.at < from.bytes.length) {
      const length = readVarint(from);
      const reply = read(REPLY, from.bytes.subarray(from.at, from.at + length));
      from.at += length;
      answered(reply);
    }
  };
  opened.onclose = () => {
    if (socket !== opened) return;
    socket = null;
    session = {};
    waiting.clear();
    clearTimeout(silence);
    for (const state of groups.values()) Object.assign(state, { seq: null, held: [], asked: false });
    retry();
  };
}

/** Full jitter: after a restart of the gateway its pages do not come back all at once. */
function retry() {
  const ceiling = Math.min(RETRY_MS.most, RETRY_MS.first * 2 ** failures++);
  setTimeout(open, Math.random() * ceiling);
}

// ---- The page ----

const element = (id) => document.getElementById(id);
const rows = new Map();
const price = (value) => (value === undefined ? '–' : value.toFixed(2));

function say(state, words) {
  element('state').dataset.state = state;
  element('state').textContent = words;
}

function row(symbol) {
  if (rows.has(symbol)) return rows.get(symbol);
  const made = document.createElement('tr');
  for (let index = 0; index < 5; index++) made.append(document.createElement('td'));
  rows.set(symbol, made);
  const after = [...rows.keys()].filter((other) => other > symbol).sort()[0];
  element('rows').insertBefore(made, after ? rows.get(after) : null);
  return made;
}

function paint() {
  for (const symbol of changed) {
    const { last, bid, ask, volume, direction = 0 } = quotes.get(symbol);
    const cells = row(symbol).cells;
    const values = [symbol, price(last), price(bid), price(ask), volume.toLocaleString('en')];
    for (const [index, value] of values.entries()) {
      if (cells[index].textContent !== value) cells[index].textContent = value;
    }
    cells[1].className = { 1: 'up', [-1]: 'down' }[direction] ?? '';
  }
  changed.clear();
  requestAnimationFrame(paint);
}

setInterval(() => {
  element('count').textContent = quotes.size;
  element('rate').textContent = counts.updates;
  element('gaps').textContent = counts.gaps;
  counts.updates = 0;
}, 1_000);
requestAnimationFrame(paint);
open();
