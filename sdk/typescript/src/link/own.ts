// The hub in this tab, for this tab alone.

import type { Hub } from '../hub.js';
import type { HubPort, Link, LoadHub } from '../link.js';
import type { ToHub, ToTab } from '../messages.js';
import { localPorts } from '../port.js';

export class OwnLink implements Link {
  readonly mode = 'own';
  readonly #load: LoadHub;
  #hub: Hub | null = null;
  #closed = false;

  constructor(load: LoadHub) {
    this.#load = load;
  }

  async attach(): Promise<HubPort> {
    this.#hub ??= await this.#load();
    const [here, there] = localPorts<ToHub, ToTab>();
    if (this.#closed) this.#hub.close();
    else this.#hub.accept(there);
    return here;
  }

  failed(): void {
    this.#hub?.close();
    this.#hub = null;
  }

  close(): void {
    this.#closed = true;
    this.#hub?.close();
  }
}
