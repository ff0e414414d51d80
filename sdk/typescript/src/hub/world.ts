// The hub with what a browser has.

import { systemClock } from '../clock.js';
import { Hub, type HubWorld } from '../hub.js';
import { browserLocks } from '../locks.js';
import { unique } from '../unique.js';
import { openCentrifuge } from '../upstream/centrifuge.js';

/** A hub in this page or worker. */
export function browserHub(): Hub {
  return new Hub(browserWorld());
}

function browserWorld(): HubWorld {
  return { clock: systemClock, locks: browserLocks(), open: openCentrifuge, unique, soon: soonest() };
}

/** A turn of the event loop later. Timers would do it too, but browsers delay them by milliseconds. */
function soonest(): HubWorld['soon'] {
  const { port1, port2 } = new MessageChannel();
  const waiting: (() => void)[] = [];
  port1.onmessage = () => waiting.shift()?.();
  return (run) => {
    waiting.push(run);
    port2.postMessage(null);
  };
}
