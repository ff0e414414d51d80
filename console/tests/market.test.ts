import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { Announcer } from '../market/announcer';
import { Durations } from '../market/frames';
import { groupsOf, GROUPS_MAX } from '../market/groups';
import { compare, matches, type Standing, turned } from '../market/order';

describe('durations', () => {
  test('tell the quantile of the last ones', () => {
    const durations = new Durations(100);
    expect(durations.quantile(0.95)).toBe(0);
    for (let ms = 1; ms <= 100; ms += 1) durations.add(ms);
    expect([durations.quantile(0), durations.quantile(0.5), durations.quantile(0.95), durations.quantile(1)]).toEqual([1, 50, 95, 100]);
    for (let turn = 0; turn < 100; turn += 1) durations.add(3);
    expect(durations.quantile(1)).toBe(3);
  });
});

describe('groups', () => {
  test('are ten, or those that the address names', () => {
    expect(groupsOf('')).toHaveLength(10);
    expect(groupsOf('').at(-1)).toBe('g09');
    expect(groupsOf('?groups=2')).toEqual(['g00', 'g01']);
    expect(groupsOf('?groups=g07,a,g07,no.pe')).toEqual(['g07', 'a']);
    expect(groupsOf('?groups=999')).toHaveLength(GROUPS_MAX);
    expect(groupsOf('?groups=0')).toEqual(['g00']);
  });
});

describe('the order of rows', () => {
  const row = (symbol: string, last: number, change: number): Standing => ({ symbol, change, quote: { symbol, last, bid: 0, ask: 0, bidSize: 0, askSize: 0, volume: 0 } });
  const rows = [row('b', 2, 0.1), row('a', 2, -0.1), row('c', 3, 0)];
  const sorted = (...order: Parameters<typeof compare>) => [...rows].sort(compare(...order)).map(({ symbol }) => symbol).join('');

  test('goes by a column and, among equals, by the symbol', () => {
    expect(sorted({ column: 'last', descending: false })).toBe('abc');
    expect(sorted({ column: 'last', descending: true })).toBe('cab');
    expect(sorted({ column: 'change', descending: true })).toBe('bca');
    expect(sorted({ column: 'symbol', descending: true })).toBe('cba');
  });

  test('begins with the largest number and turns with the second click', () => {
    const first = turned({ column: 'symbol', descending: false }, 'volume');
    expect(first).toEqual({ column: 'volume', descending: true });
    expect(turned(first, 'volume')).toEqual({ column: 'volume', descending: false });
    expect(turned(first, 'symbol')).toEqual({ column: 'symbol', descending: false });
  });

  test('leaves out what does not match', () => {
    expect([matches('S012', '12'), matches('S012', 's0 2'), matches('S012', ''), matches('S012', '13')]).toEqual([true, true, true, false]);
  });
});

describe('announcements', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  test('are heard at once, then no more often than they can be, the last one winning', () => {
    const heard: string[] = [];
    const announcer = new Announcer((words) => heard.push(words), 2_000);
    for (const words of ['one', 'two', 'three']) announcer.say(words);
    expect(heard).toEqual(['one']);
    vi.advanceTimersByTime(2_000);
    expect(heard).toEqual(['one', 'three']);
    vi.advanceTimersByTime(10_000);
    announcer.say('four');
    expect(heard).toEqual(['one', 'three', 'four']);
    announcer.say('five');
    announcer.end();
    vi.advanceTimersByTime(10_000);
    expect(heard).toHaveLength(3);
  });
});
