// Work per frame, and what is left out when it is too much.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { FrameBatcher, Ladder, Percentile, RECOVERY_MAX_MS, RECOVERY_MS, SAMPLE, TRIM, type FrameInfo } from '../src/frames.js';

const FRAME_MS = 1000 / 60;

/** A screen: `frame` passes one frame, in which showing takes `costMs`. */
function screen(): {
  batcher: FrameBatcher<string, number>;
  shown: { changed: Map<string, number>; info: FrameInfo }[];
  frame(): void;
  run(ms: number, feed: () => void): void;
  work(ms: number): void;
  pass(ms: number): void;
  costMs: number;
} {
  let now = 0;
  const scheduled: (() => void)[] = [];
  const shown: { changed: Map<string, number>; info: FrameInfo }[] = [];
  const batcher = new FrameBatcher<string, number>({
    now: () => now,
    schedule: (frame) => void scheduled.push(frame),
    onFrame: (changed, info) => {
      shown.push({ changed, info });
      now += made.costMs;
    },
  });
  const made = {
    batcher,
    shown,
    costMs: 1,
    frame() {
      now += FRAME_MS;
      for (const frame of scheduled.splice(0)) frame();
    },
    work: (ms: number) => void batcher.counted(() => (now += ms)),
    pass: (ms: number) => void (now += ms),
    run(ms: number, feed: () => void) {
      for (const end = now + ms; now < end; ) {
        feed();
        made.frame();
      }
    },
  };
  return made;
}

test('of each key the last value is shown, once per frame', () => {
  const { batcher, shown, frame } = screen();
  batcher.put('a', 1);
  batcher.put('a', 2);
  batcher.put('b', 3);
  frame();
  frame();
  assert.deepEqual(shown.map(({ changed }) => [...changed]), [[['a', 2], ['b', 3]]]);
});

test('it degrades step by step and stops', () => {
  const made = screen();
  made.costMs = 20;
  const feed = (): void => {
    for (let index = 0; index < TRIM * 2; index += 1) made.batcher.put(`k${index}`, index);
  };
  const levels = [];
  for (let round = 0; round < 30; round += 1) {
    made.run(100, feed);
    levels.push(made.batcher.degrade);
  }
  assert.deepEqual([...new Set(levels)], ['none', 'sampling', 'trimming', 'stopped']);
  for (const { changed, info } of made.shown) {
    assert.equal(info.trimmed, info.degrade === 'trimming');
    if (info.trimmed) assert.ok(changed.size <= TRIM);
  }
});

test('sampling shows every fourth frame, and nothing is forgotten', () => {
  const made = screen();
  made.costMs = 20;
  while (made.batcher.degrade === 'none') made.run(1, () => made.batcher.put('a', 1));
  made.costMs = 1;
  made.shown.length = 0;
  let count = 0;
  for (let index = 0; index < 40; index += 1) {
    made.batcher.put(`k${index}`, index);
    made.frame();
  }
  for (let index = 0; index < SAMPLE; index += 1) made.frame();
  for (const { changed } of made.shown) count += [...changed.keys()].filter((key) => key.startsWith('k')).length;
  assert.ok(made.shown.length <= 11, `${made.shown.length}`);
  assert.equal(count, 40);
});

test('three seconds within budget are a step up', () => {
  const ladder = new Ladder(8);
  let now = 0;
  const frame = (workMs: number): void => ladder.measured(workMs, (now += FRAME_MS));
  for (let index = 0; index < 5; index += 1) frame(20);
  assert.equal(ladder.level, 'sampling');
  const from = now;
  while (ladder.level === 'sampling') frame(2);
  assert.equal(ladder.level, 'none');
  assert.ok(now - from >= RECOVERY_MS && now - from < RECOVERY_MS + 100);
});

test('a stop ends after a while, and lasts longer when that was too early', () => {
  const ladder = new Ladder(8);
  let now = 0;
  const waits: number[] = [];
  for (let round = 0; round < 6; round += 1) {
    while (ladder.level !== 'stopped') ladder.measured(20, (now += FRAME_MS));
    const from = now;
    while (ladder.level === 'stopped') ladder.passed((now += FRAME_MS));
    assert.equal(ladder.level, 'trimming');
    waits.push(now - from);
  }
  for (const [index, wait] of waits.entries()) {
    const expected = Math.min(RECOVERY_MS * 2 ** index, RECOVERY_MAX_MS);
    assert.ok(wait >= expected && wait < expected + 100, `${wait} for ${expected}`);
  }
});

test('a few slow frames change nothing', () => {
  const ladder = new Ladder(8);
  for (let index = 0; index < 600; index += 1) ladder.measured(index % 10 === 0 ? 20 : 1, index * FRAME_MS);
  assert.equal(ladder.level, 'none');
});

test('work before the frame counts towards it, and what onFrame throws does not stop the frames', () => {
  let now = 0;
  const scheduled: (() => void)[] = [];
  const batcher = new FrameBatcher<string, number>({
    now: () => now,
    schedule: (frame) => void scheduled.push(frame),
    onFrame: () => {
      throw new Error('mine');
    },
  });
  batcher.counted(() => (now += 5));
  batcher.put('a', 1);
  assert.throws(() => scheduled.shift()!(), /mine/);
  assert.equal(batcher.p95, 5);
  batcher.put('a', 2);
  assert.equal(scheduled.length, 1);
});

test('work between frames that are far apart does not look like one slow frame', () => {
  const made = screen();
  made.costMs = 1;
  for (let second = 0; second < 20; second += 1) {
    // In the background: decoding for a second, then one frame.
    made.batcher.put('a', second);
    for (let part = 0; part < 30; part += 1) made.work(1), made.pass(32);
    made.frame();
  }
  assert.equal(made.batcher.degrade, 'none');
  assert.ok(made.batcher.p95 < 3, `${made.batcher.p95}`);
});

test('the percentile is that of the last values', () => {
  const percentile = new Percentile();
  assert.equal(percentile.p95(), 0);
  for (let value = 1; value <= 100; value += 1) percentile.add(value);
  assert.equal(percentile.p95(), 95);
  for (let value = 0; value < 120; value += 1) percentile.add(1);
  assert.equal(percentile.p95(), 1);
});
