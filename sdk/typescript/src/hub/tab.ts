// One tab, as the hub knows it, and what is on its way to it.

import type { Publication, ToHub, ToTab } from '../messages.js';
import type { Port } from '../port.js';

/**
 * Batches that may be on their way to a tab. A tab that is frozen or busy takes none, and what is
 * posted to it would pile up in the browser: beyond this, publications are left out and it is told.
 */
export const WINDOW = 128;

/** Publications in one batch; more start to be left out, as beyond {@link WINDOW}. */
export const BATCH = 4096;

export class Tab {
  readonly id: string;
  /** When it was last heard of, in milliseconds since 1970-01-01 UTC. */
  heard: number;
  visible: boolean;
  /** Whether it can be asked for tokens. */
  readonly givesTokens: boolean;
  stopWatching: () => void = () => {};
  readonly port: Port<ToTab, ToHub>;
  #pending: Publication[] = [];
  #sent = 0;
  #acknowledged = 0;
  readonly #lost = new Set<string>();

  constructor(hello: Extract<ToHub, { t: 'hello' }>, port: Port<ToTab, ToHub>, now: number) {
    this.id = hello.tab;
    this.visible = hello.visible;
    this.givesTokens = hello.config.token;
    this.heard = now;
    this.port = port;
  }

  /** Goes out with the next {@link flush}. */
  put(publication: Publication): void {
    const full = this.#sent - this.#acknowledged >= WINDOW || this.#pending.length >= BATCH;
    if (full || this.#lost.has(publication.channel)) this.#lost.add(publication.channel);
    else this.#pending.push(publication);
  }

  flush(): void {
    if (this.#pending.length === 0) return;
    const publications = this.#pending;
    this.#pending = [];
    this.#sent += 1;
    this.port.post({ t: 'batch', batch: this.#sent, publications });
  }

  /** The tab has seen this batch and all before it. */
  acknowledged(batch: number): void {
    this.#acknowledged = Math.min(Math.max(batch, this.#acknowledged), this.#sent);
    if (this.#lost.size === 0 || this.#sent - this.#acknowledged > WINDOW / 2) return;
    this.flush();
    for (const channel of this.#lost) this.port.post({ t: 'channel', channel, event: { event: 'lost' } });
    this.#lost.clear();
  }
}
