// A stand-in for the admin listener, to work on the console without a gateway:
//
//   npx vite build --mode operator && node scripts/mock.mjs 9001
//
// Any token but `wrong` is let in. What is changed lasts until it ends.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const dist = fileURLToPath(new URL('../dist/console', import.meta.url));
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };
const POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'";
const started = Date.now();

let connections = Array.from({ length: 137 }, (_, index) => ({
  client: `6f1c${(index * 7919).toString(16).padStart(4, '0')}-2b1e-4c55-9d0a-${(index * 104729).toString(16).padStart(12, '0')}`,
  user: index % 9 === 0 ? '' : `guest-${(index * 48271).toString(16).slice(0, 6)}`,
  address: index % 5 === 0 ? `2001:db8::${index.toString(16)}` : `203.0.113.${index % 250}`,
  transport: ['websocket', 'http_stream', 'sse'][index % 17 === 0 ? 1 : index % 23 === 0 ? 2 : 0],
  encoding: index % 4 === 0 ? 'protobuf' : 'json',
  dialect: 'centrifuge',
  connected_at: Math.floor(started / 1_000) - index * 311,
  channels: 1 + (index % 21),
  queue_bytes: index % 31 === 0 ? 48_213 : 0,
}));
const channels = Array.from({ length: 64 }, (_, index) => ({
  name: index < 20 ? `xy.md.${index % 2 ? 'tick' : 'snapshot'}.g0${index >> 1}` : `demo:room-${index}`,
  subscribers: (index * 37) % 400,
}));
let flags = {
  version: 7,
  flags: { 'gateway.notsent_lowat': { enabled: true, percentage: 25 }, 'checkout.new-flow': true, 'market.sparkline': false },
};
const record = { id: 'orders', path: '/orders', upstreams: [{ url: 'http://10.0.0.5:8080' }, { url: 'http://10.0.0.6:8080' }], active: true };

function overview() {
  const seconds = (Date.now() - started) / 1_000;
  return {
    node: 'a3f0-mock', version: '0.1.0', uptime_seconds: Math.round(93_784 + seconds), time_ms: Date.now(), stage: 'ready',
    connections: Math.round(1_210 + 80 * Math.sin(seconds / 9)), users: 870, channels: 64, subscriptions: 14_220,
    messages_in: Math.round(1e6 + seconds * 340 + 300 * Math.sin(seconds / 3)),
    messages_out: Math.round(9e7 + seconds * 21_000 + 14_000 * Math.sin(seconds / 5)),
    bytes_in: Math.round(4e7 + seconds * 41_000), bytes_out: Math.round(8e9 + seconds * 2_100_000 + 1e6 * Math.sin(seconds / 5)),
    drops: { slow_client: Math.round(12 + seconds / 7), queue_full: 3, position_lost: 0 },
    cpu_seconds: 4_000 + seconds * .62 + Math.sin(seconds / 4), cores: 2,
    resident_bytes: 210e6 + 9e6 * Math.sin(seconds / 11), limit_bytes: 3.2e9,
    bus: { kind: 'nats', state: 'connected', published: Math.round(9e5 + seconds * 300), losses: 0 },
    relay: { pending: 22, dead_letters: 2, received: 18_223, delivered: 17_998, agents_up: 2 }, proxy: { routes: 1, in_flight: 11 },
  };
}

const config = {
  data_dir: './data', workers: 0, log: { level: 'info', format: 'auto' },
  listeners: { main: { address: '127.0.0.1:8000', tls: null }, admin: { address: '127.0.0.1:8001' } },
  access: { allowed_origins: ['https://app.example', 'https://*.example.com'], allow: [], deny: [] },
  client: { token: { hmac_secret_key: '(redacted)', audience: '' }, ping_interval: '25s' },
  channel: { namespaces: [{ name: 'demo', history_size: 100 }, { name: 'xy', pattern: 'xy.>', history_size: 0 }] },
};

const explanation = {
  method: 'GET', path: '/orders', route: { id: 'orders', name: 'orders', prefix: '/-/orders' }, isThis: true,
  decision: 'it is passed to http://10.0.0.5:8080/orders', access: { rule: '@request.auth.id != ""', guest: false, user: true, superuser: true },
  limiter: { mode: 'adaptive', limit: 64, inFlight: 11, queue: 32, waiting: 2 },
  upstreams: [
    { url: 'http://10.0.0.5:8080', weight: 1, breaker: 'closed', ejected: false, latencyMs: 12.4, inFlight: 9, eligible: true },
    { url: 'http://10.0.0.6:8080', weight: 1, breaker: 'open', retryAfterMs: 8_200, ejected: true, latencyMs: 812, inFlight: 0, eligible: false },
  ],
};

const relay = {
  clients: { connected: 41, connections: 96 },
  messages: { received: 18_223, accepted: 18_020, durable: 18_020, duplicate: 44, delivered: 17_998, retried: 31, refused: { rate: 140, route: 19 }, dead: { refused: 2 } },
  answers: { passed: 40_112, dropped: 0 }, held: { pending: 22, oldestSeconds: 3.2, bytes: 44_120, deadLetters: 2, remembered: 9_100 },
  agents: { known: 3, up: 2, waiting: 1, inFlight: 6 },
  outbox: { appended: 18_020, settled: 17_996, unsettled: 24, bytes: 8_400_112, syncs: 6_201, syncP99Seconds: .0021, corrupt: 0, failed: null },
};
const agents = [
  { url: 'wss://agents.example/one', state: 'up', queueDepth: 4, inFlight: 3, breaker: 'closed', lastError: null, delivered: 9_000, answers: 20_000 },
  { url: 'wss://agents.example/two', state: 'waiting', queueDepth: 18, inFlight: 0, breaker: 'open', retryAfterMs: 4_000, lastError: 'connection refused', delivered: 8_998, answers: 20_112 },
];
let letters = [311, 402].map((id) => ({ id, clientId: `client-${id}`, priority: 'interactive', reason: 'the agent refused: no such conversation', acceptedAt: started - 9e5, deadAt: started - 6e5, size: 412 }));

const page = (all, key, query, name) => {
  const search = (query.get('search') ?? '').toLowerCase();
  const limit = Number(query.get('limit') ?? 50);
  const found = all.filter((each) => JSON.stringify(each).toLowerCase().includes(search));
  const from = Number(query.get('cursor') ?? 0);
  const next = from + limit < found.length ? { next: String(from + limit) } : {};
  return { [name]: found.slice(from, from + limit), ...next };
};

async function answer(method, path, query, body) {
  if (path === '/admin/overview') return [200, overview()];
  if (path === '/admin/config') return [200, config];
  if (path === '/admin/connections') return [200, page(connections, 'client', query, 'connections')];
  if (path.startsWith('/admin/connections/')) {
    const client = decodeURIComponent(path.split('/')[3]);
    const found = connections.find((each) => each.client === client);
    if (!found) return [404, { error: { code: 'not_found', message: 'no connection has this id' } }];
    if (method === 'DELETE') {
      connections = connections.filter((each) => each !== found);
      return [204];
    }
    return [200, { ...found, expires_at: found.connected_at + 3_600, channel_names: channels.slice(0, found.channels).map(({ name }) => name) }];
  }
  if (path === '/admin/channels') return [200, page(channels, 'name', query, 'channels')];
  if (path.endsWith('/presence')) {
    return [200, { presence: Object.fromEntries(connections.slice(0, 8).map(({ client, user }) => [client, { client, user }])) }];
  }
  if (path === '/api/collections/_proxies/records') return [200, { page: 1, perPage: 200, totalItems: 1, items: [record] }];
  if (path.startsWith('/api/collections/_proxies/records/')) return [200, record];
  if (path.endsWith('/explain')) return [200, explanation];
  if (path === '/admin/relay') return [200, relay];
  if (path === '/admin/relay/agents') return [200, { agents, total: agents.length }];
  if (path === '/admin/relay/dead-letters') return [200, { deadLetters: letters }];
  if (path.startsWith('/admin/relay/dead-letters/')) {
    letters = letters.filter(({ id }) => id !== Number(path.split('/')[4]));
    return method === 'DELETE' ? [204] : [202, { status: 'pending' }];
  }
  if (path === '/admin/feature-flags') {
    if (method === 'GET') return [200, flags];
    // A flag of this name stands for somebody who was faster.
    if ('race' in (body.flags ?? {})) flags = { ...flags, version: flags.version + 1 };
    if (body.version !== undefined && body.version !== flags.version) {
      return [409, { error: { code: 'conflict', message: 'the flags have another version' }, ...flags }];
    }
    const merged = Object.entries(method === 'PUT' ? body.flags : { ...flags.flags, ...body.flags });
    flags = { version: flags.version + 1, flags: Object.fromEntries(merged.filter(([, value]) => value !== null)) };
    return [200, flags];
  }
  return [404, { error: { code: 'not_found', message: 'there is nothing at this path' } }];
}

createServer(async (request, response) => {
  const url = new URL(request.url, 'http://localhost');
  if (url.pathname.startsWith('/console')) {
    const name = url.pathname.slice('/console/'.length);
    const file = extname(name) && (name.startsWith('assets/') || !name.includes('/')) ? name : 'index.html';
    const bytes = await readFile(join(dist, file)).catch(() => null);
    response.writeHead(bytes ? 200 : 404, { 'content-type': TYPES[extname(file)] ?? 'text/plain', 'content-security-policy': POLICY });
    response.end(bytes ?? 'not found');
    return;
  }
  const token = request.headers.authorization;
  if (!token || token === 'Bearer wrong') {
    response.writeHead(401, { 'content-type': 'application/json' });
    response.end('{"error":{"code":"unauthorized","message":"an administrator token is wanted"}}');
    return;
  }
  if (url.pathname === '/admin/overview/stream') {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const tell = () => response.write(`data: ${JSON.stringify(overview())}\n\n`);
    tell();
    const timer = setInterval(tell, Number(process.env.EVERY_MS ?? 1_000));
    request.on('close', () => clearInterval(timer));
    return;
  }
  let text = '';
  for await (const part of request) text += part;
  const [status, body] = await answer(request.method, url.pathname, url.searchParams, text ? JSON.parse(text) : {});
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}).listen(Number(process.argv[2] ?? 9001), '127.0.0.1');
