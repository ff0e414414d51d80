// The hub in a SharedWorker.

import type { Cancel } from '../clock.js';
import type { HubPort, Link } from '../link.js';
import { overMessagePort } from '../port.js';
import type { ToHub, ToTab } from '../messages.js';

/** The part of `SharedWorker` that is used. */
export interface WorkerHandle {
  readonly port: MessagePort;
  addEventListener(type: 'error', listener: () => void): void;
}

export interface WorkerWorld {
  start(name: string): WorkerHandle;
  /** Kept by the browser and shared by the tabs of this origin; `null` where there is none. */
  storage: Pick<Storage, 'getItem' | 'setItem'> | null;
  /** Tells when another tab has changed what is stored. */
  onStored(changed: () => void): Cancel;
}

/**
 * A worker that has died or hangs is not reached again under its name in every browser. So the name
 * ends with a generation, which any tab raises that finds the worker dead; since all of them raise it
 * from what they used to what comes next, they meet again. A tab that was not in doubt follows the
 * others as soon as it hears of it: one connection is worth more than one that lives.
 */
export class SharedWorkerLink implements Link {
  readonly mode = 'shared-worker';
  readonly #world: WorkerWorld;
  readonly #scope: string;
  readonly #stopListening: Cancel;
  #used = 0;
  #port: HubPort | null = null;

  constructor(world: WorkerWorld, scope: string) {
    this.#world = world;
    this.#scope = scope;
    this.#used = this.#stored();
    this.#stopListening = world.onStored(() => {
      if (this.#stored() > this.#used) this.#port?.onlost?.('the other tabs have a new worker');
    });
  }

  async attach(): Promise<HubPort> {
    this.#used = Math.max(this.#used, this.#stored());
    const worker = this.#world.start(`${this.#scope}#${this.#used}`);
    const port = overMessagePort<ToHub, ToTab>(worker.port);
    this.#port = port;
    worker.addEventListener('error', () => port.onlost?.('the worker did not start'));
    return port;
  }

  failed(): void {
    if (this.#stored() > this.#used) return;
    this.#used += 1;
    try {
      this.#world.storage?.setItem(this.#key(), String(this.#used));
    } catch {
      // Full or forbidden: the other tabs find out for themselves and count alike.
    }
  }

  close(): void {
    this.#port = null;
    this.#stopListening();
  }

  #stored(): number {
    try {
      return Number(this.#world.storage?.getItem(this.#key()) ?? 0) || 0;
    } catch {
      return 0;
    }
  }

  #key(): string {
    return `${this.#scope}#generation`;
  }
}
