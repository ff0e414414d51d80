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

/** Holds if the answer is truthy all the time; fails as soon as it is not. */
export async function throughout(what, milliseconds, ask, seen = () => '') {
  const end = performance.now() + milliseconds;
  while (performance.now() < end) {
    if (!(await ask())) throw new Error(`not all the time: ${what}; ${JSON.stringify(await seen())}`);
    await pause(STEP_MS);
  }
}
