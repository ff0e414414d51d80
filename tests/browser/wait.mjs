// Waiting for what is to come true, with a deadline.

import { setTimeout as pause } from 'node:timers/promises';

const STEP_MS = 20;

/**
 * Asks again and again until the answer is truthy, and gives that answer.
 * @param {() => unknown} seen adds to the message of the failure
 */
export async function until(what, milliseconds, ask, seen = () => '') {
  const end = performance.now() + milliseconds;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (performance.now() >= end) throw new Error(`not within ${milliseconds} ms: ${what}; ${JSON.stringify(await seen())}`);
    await pause(STEP_MS);
  }
}

/**
 * How long the machine has kept this process waiting since then, in milliseconds: a timer that is late
 * by more than a tenth of a second. The browser and the gateway have waited as long, and that is added to
 * what they may take. A machine without other work keeps nobody waiting.
 * @param {number} since as `Date.now()` has it
 */
export function stalled(since) {
  return stalls.filter(({ at }) => at >= since).reduce((sum, { ms }) => sum + ms, 0);
}

const stalls = [];
const TICK_MS = 50;
const LATE_MS = 100;
let ticked = Date.now();
setInterval(() => {
  const late = Date.now() - ticked - TICK_MS;
  ticked = Date.now();
  if (late > LATE_MS) stalls.push({ at: ticked, ms: late });
}, TICK_MS).unref();

/** Holds if the answer is truthy all the time; fails as soon as it is not. */
export async function throughout(what, milliseconds, ask, seen = () => '') {
  const end = performance.now() + milliseconds;
  while (performance.now() < end) {
    if (!(await ask())) throw new Error(`not all the time: ${what}; ${JSON.stringify(await seen())}`);
    await pause(STEP_MS);
  }
}
