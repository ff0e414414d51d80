import { describe, expect, test } from 'vitest';

import { fault, list, present, removal, setting, value } from '../operator/flags';
import { href, parseRoute } from '../operator/route';
import { append, ceiling, path, type Sample, SAMPLES_MAX, span } from '../operator/series';
import type { Overview } from '../operator/shapes';
import { matching, sections, settings } from '../operator/tree';

const overview = (over: Partial<Overview>): Overview => ({
  node: 'n', version: '1', uptime_seconds: 100, time_ms: 100_000, connections: 5, users: 1, channels: 1, subscriptions: 1,
  messages_in: 10, messages_out: 100, bytes_in: 1_000, bytes_out: 2_000, stage: 'ready', drops: { slow_client: 1 }, cpu_seconds: 4, cores: 2, resident_bytes: 1, limit_bytes: 2,
  bus: { kind: 'memory', state: 'connected', published: 1, losses: 0 }, relay: null, proxy: null, ...over,
});

describe('samples', () => {
  test('are rates between two overviews', () => {
    const first = overview({});
    expect(append([], undefined, first)).toEqual([]);
    const second = overview({ time_ms: 102_000, uptime_seconds: 102, messages_in: 30, messages_out: 500, bytes_out: 3_000, drops: { slow_client: 1, queue_full: 4 }, cpu_seconds: 5 });
    expect(append([], first, second)).toEqual([{ atMs: 102_000, connections: 5, inPerSecond: 10, outPerSecond: 200, bytesInPerSecond: 0, bytesOutPerSecond: 500, dropsPerSecond: 2, cpu: 0.5, residentBytes: 1 }]);
  });

  test('have no rates across a restart, and none twice', () => {
    const before = overview({ messages_out: 1_000_000 });
    const after = overview({ time_ms: 101_000, uptime_seconds: 1, messages_out: 7 });
    expect(append([], before, after)[0]).toMatchObject({ outPerSecond: 0, cpu: 0 });
    expect(append([], before, before)).toEqual([]);
  });

  test('are forgotten after five minutes', () => {
    let [samples, last]: [Sample[], Overview] = [[], overview({})];
    for (let second = 1; second <= SAMPLES_MAX + 10; second += 1) {
      const next = overview({ time_ms: 100_000 + second * 1_000 });
      samples = append(samples, last, next);
      last = next;
    }
    expect(samples).toHaveLength(SAMPLES_MAX);
    expect(samples.at(-1)?.atMs).toBe(last.time_ms);
  });
});

describe('charts', () => {
  test('reach a round number', () => {
    expect([ceiling([], 10), ceiling([3], 10), ceiling([11], 10), ceiling([201], 1), ceiling([1_288], 1), ceiling([9_001], 1)]).toEqual([10, 10, 20, 500, 2_000, 10_000]);
  });

  test('end at the right edge and stay inside', () => {
    expect(path([0, 5, 20], 10, 100, 50, 11)).toBe('M80.0 50.0L90.0 25.0L100.0 0.0');
    expect(path([], 1, 100, 50, 10)).toBe('');
    expect([span(0), span(90), span(SAMPLES_MAX + 1)]).toEqual([60, 90, SAMPLES_MAX]);
  });
});

describe('routes', () => {
  test('survive the way into an address and back', () => {
    for (const item of ['', 'xy.md.tick.g00', 'a/b c?d#e%', 'Ω']) {
      const address = new URL(href('channels', item, { search: 'a b', cursor: '' }), 'http://x');
      const found = parseRoute(address.pathname, address.search);
      expect(found).toMatchObject({ page: 'channels', item });
      expect([...found.query]).toEqual([['search', 'a b']]);
    }
  });

  test('that are broken are no failure', () => {
    expect(parseRoute('/console/channels/%E0%A4%A', '')).toMatchObject({ page: 'channels', item: '%E0%A4%A' });
    expect(parseRoute('/elsewhere', '')).toMatchObject({ page: '', item: '' });
  });
});

describe('flags', () => {
  const flags = { version: 7, flags: { b: true, a: { enabled: true, percentage: 25 }, c: { enabled: false, percentage: null } } };

  test('are read in either spelling and sorted', () => {
    expect(list(flags)).toEqual([
      { name: 'a', enabled: true, percentage: 25 },
      { name: 'b', enabled: true, percentage: 100 },
      { name: 'c', enabled: false, percentage: 100 },
    ]);
  });

  test('are sent with the version that was seen', () => {
    expect(setting({ name: 'a', enabled: false, percentage: 25 }, 7)).toEqual({ version: 7, flags: { a: { enabled: false, percentage: 25 } } });
    expect(value({ enabled: true, percentage: 100 })).toBe(true);
    expect(removal('b', 7)).toEqual({ version: 7, flags: { b: null } });
  });

  test('have names that are new and plain', () => {
    expect(fault('new.flag-1', flags)).toBeNull();
    expect(fault('b', flags)).toMatch('There is a flag');
    for (const name of ['', ' ', 'a b', '.a', 'x'.repeat(129)]) expect(fault(name, flags), name).toMatch('A name has');
  });

  test('that somebody else changed are found in the refusal', () => {
    const state = { version: 8, flags: { x: true } };
    expect(present({ error: { code: 'conflict' }, ...state })).toEqual(state);
    for (const body of [undefined, {}, { version: 'x', flags: {} }, { version: 1, flags: null }]) expect(present(body)).toBeNull();
  });
});

describe('the configuration', () => {
  const tree = {
    log: { level: 'info' }, workers: 0,
    client: { token: { hmac_secret_key: '(redacted)', audience: '' } },
    access: { allow: [], allowed_origins: ['https://a', 'https://b'] },
    channel: { namespaces: [{ name: 'demo' }] }, tls: null, empty: {},
  };

  test('is shown leaf by leaf, without secrets', () => {
    expect(settings(tree).map(({ key, value, masked }) => [key, value, masked])).toEqual([
      ['log.level', 'info', false], ['workers', '0', false],
      ['client.token.hmac_secret_key', 'set, not shown', true], ['client.token.audience', 'empty', false],
      ['access.allow', 'none', false], ['access.allowed_origins', 'https://a, https://b', false],
      ['channel.namespaces[0].name', 'demo', false], ['tls', 'not set', false], ['empty', 'empty', false],
    ]);
  });

  test('is searched by all words, in keys and values', () => {
    const keys = (search: string) => matching(settings(tree), search).map(({ key }) => key);
    expect(keys('token audience')).toEqual(['client.token.audience']);
    expect(keys('INFO')).toEqual(['log.level']);
    expect(keys('nothing')).toEqual([]);
    expect(keys(' ')).toHaveLength(9);
  });

  test('is grouped by section, what has none first', () => {
    expect(sections(settings(tree)).map(([section]) => section)).toEqual(['general', 'log', 'client', 'access', 'channel']);
  });
});
