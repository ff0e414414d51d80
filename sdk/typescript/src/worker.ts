// The SharedWorker: one hub, and every tab that connects is one of its ports.

import { browserHub } from './hub/world.js';
import { overMessagePort } from './port.js';
import type { ToHub, ToTab } from './messages.js';

interface SharedWorkerScope {
  onconnect: ((event: MessageEvent) => void) | null;
}

const scope = globalThis as unknown as SharedWorkerScope;
const hub = browserHub();

scope.onconnect = (event) => {
  const [port] = event.ports;
  if (port !== undefined) hub.accept(overMessagePort<ToTab, ToHub>(port));
};
