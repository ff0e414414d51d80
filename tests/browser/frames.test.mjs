// What the market screen costs the browser's main thread, from a trace of the browser itself.

import assert from 'node:assert/strict';
import { loadavg } from 'node:os';
import { after, before, describe, test } from 'node:test';

import { endSoon } from '../sdk/events.mjs';
import { Chromium, stats } from './chromium.mjs';
import { Server } from './server.mjs';
import { mainThread } from './trace.mjs';
import { throughout, until } from './wait.mjs';

const TRACED_MS = 20_000;
const FRAME_MS = 8;
const TASK_MS = 50;

describe('main thread', () => {
  let chromium;
  let server;
  before(async () => {
    [chromium, server] = await Promise.all([Chromium.start(), Server.start(null)]);
  });
  after(async () => {
    endSoon();
    await chromium?.close();
    await server?.remove();
  });

  test('200 updating symbols leave it time', { timeout: 90_000 }, async () => {
    const profile = await chromium.profile({ viewport: { width: 1280, height: 800 } });
    const page = await profile.open(`${server.main}/market/`);
    await until('the tab is live', 10_000, async () => (await stats(page)).symbols === 200);
    // What a page costs while it is loaded is another matter.
    await until('a snapshot came with time', 15_000, async () => (await stats(page)).updatesPerSecond > 500);
    await chromium.browser.startTracing(page, { categories: ['devtools.timeline', 'disabled-by-default-devtools.timeline'] });
    await throughout('it is live', TRACED_MS, async () => (await stats(page)).state === 'connected');
    const trace = JSON.parse(await chromium.browser.stopTracing());
    const own = await stats(page);
    const { frames, tasks } = mainThread(trace.traceEvents, `${server.main}/market/`);

    const wall = frames.map((frame) => frame.wallMs);
    const cpu = frames.map((frame) => frame.cpuMs);
    const longest = (of) => Math.max(...tasks.map(of));
    const long = { wall: tasks.filter(({ wallMs }) => wallMs > TASK_MS).length, cpu: tasks.filter(({ cpuMs }) => cpuMs > TASK_MS).length };
    console.log(`    ${frames.length} frames in ${TRACED_MS / 1000} s, ${own.updatesPerSecond} changes/s, detail ${own.degrade}; load of the machine ${loadavg()[0].toFixed(1)}`);
    console.log(`    work per frame: p50 ${quantile(wall, 0.5)} ms, p95 ${quantile(wall, 0.95)} ms, p99 ${quantile(wall, 0.99)} ms`);
    console.log(`    of it on the processor: p50 ${quantile(cpu, 0.5)} ms, p95 ${quantile(cpu, 0.95)} ms, p99 ${quantile(cpu, 0.99)} ms`);
    console.log(`    longest task ${longest(({ wallMs }) => wallMs).toFixed(1)} ms, ${longest(({ cpuMs }) => cpuMs).toFixed(1)} ms on the processor; over ${TASK_MS} ms: ${long.wall}, ${long.cpu} on the processor`);

    // Held against the bars is time on the processor: what a machine with other work adds by making
    // the page wait says nothing about the page.
    assert.ok(frames.length > TRACED_MS / 100, `${frames.length} frames`);
    assert.ok(own.updatesPerSecond > 500, `${own.updatesPerSecond} changes per second`);
    assert.ok(quantile(cpu, 0.95) <= FRAME_MS, 'work per frame');
    assert.equal(long.cpu, 0, 'long tasks');
    await profile.close();
    assert.deepEqual(profile.complaints, []);
  });
});

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return Number((sorted[Math.ceil(sorted.length * share) - 1] ?? NaN).toFixed(2));
}
