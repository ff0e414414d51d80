// One channel: subscribed to once, however many tabs want it.

import type { ChannelEvent, ChannelOptions, Publication, StreamPosition } from '../messages.js';
import type { Upstream, UpstreamChannel } from '../upstream.js';
import type { Tab } from './tab.js';

/** Publications kept of a channel with positions, for tabs that come back to this hub or from another one. */
export const RECENT = 256;

export interface ChannelOut {
  tell(tab: Tab, event: ChannelEvent): void;
  deliver(tab: Tab, publication: Publication): void;
}

type Subscribed = Extract<ChannelEvent, { event: 'subscribed' }>;

export class Channel {
  readonly name: string;
  readonly options: ChannelOptions;
  readonly tabs = new Set<Tab>();
  /** Tabs for which the recovery that is under way starts too late. */
  readonly #late = new Set<Tab>();
  readonly #out: ChannelOut;
  #upstream: UpstreamChannel | null = null;
  #subscribed: Subscribed | null = null;
  #epoch = '';
  /** Offset that the stream is at; of the last publication or of the subscription. */
  #offset = 0;
  #recent: Publication[] = [];
  #last: Publication | null = null;

  constructor(name: string, options: ChannelOptions, out: ChannelOut) {
    this.name = name;
    this.options = options;
    this.#out = out;
  }

  join(tab: Tab, options: ChannelOptions): void {
    this.tabs.add(tab);
    const subscribed = this.#subscribed;
    if (subscribed === null) {
      if (this.#behind(options.since)) this.#late.add(tab);
      return;
    }
    const missed = options.since && this.#missed(options.since);
    const position = subscribed.positioned || subscribed.recoverable;
    const from = (missed && options.since?.offset) ?? this.#offset;
    this.#out.tell(tab, {
      ...subscribed,
      wasRecovering: options.since !== undefined,
      recovered: missed !== undefined,
      position: position ? { offset: from, epoch: this.#epoch } : undefined,
    });
    if (missed !== undefined) for (const publication of missed) this.#out.deliver(tab, publication);
    else if (options.last === true && this.#last !== null) this.#out.deliver(tab, this.#last);
  }

  /** @returns whether it was in */
  leave(tab: Tab): boolean {
    this.#late.delete(tab);
    return this.tabs.delete(tab);
  }

  /** Subscribes at the server unless that is done. */
  open(upstream: Upstream): void {
    if (this.#upstream !== null) return;
    this.#upstream = upstream.subscribe(this.name, this.options, {
      event: (event) => this.#event(event),
      publication: (publication) => this.#publication(publication),
    });
  }

  close(): void {
    this.#upstream?.unsubscribe();
    this.#upstream = null;
  }

  #event(event: ChannelEvent): void {
    if (event.event === 'subscribed') {
      this.#subscribed = event;
      const epoch = event.position?.epoch ?? '';
      if (epoch !== this.#epoch || (event.wasRecovering && !event.recovered)) this.#recent = [];
      this.#epoch = epoch;
      this.#offset = event.position?.offset ?? 0;
    } else if (event.event === 'unsubscribed') {
      // For good, by the server: whoever subscribes next tries again.
      this.#subscribed = null;
      this.close();
    } else if (event.event === 'subscribing') {
      this.#subscribed = null;
    }
    for (const tab of [...this.tabs]) {
      const late = event.event === 'subscribed' && this.#late.delete(tab);
      this.#out.tell(tab, late ? { ...event, recovered: false } : event);
    }
  }

  /** Whether the position of the first tab, from which the server goes on, is beyond this one. */
  #behind(since: StreamPosition | undefined): boolean {
    const first = this.options.since;
    if (since === undefined || first === undefined) return false;
    return since.epoch !== first.epoch || since.offset < first.offset;
  }

  #publication(publication: Publication): void {
    this.#last = publication;
    if (publication.offset !== undefined) {
      this.#offset = publication.offset;
      this.#recent.push(publication);
      if (this.#recent.length > RECENT) this.#recent.shift();
    }
    for (const tab of this.tabs) this.#out.deliver(tab, publication);
  }

  /** What came after a position; nothing is said when something of it is not kept. */
  #missed(since: StreamPosition): Publication[] | undefined {
    if (since.epoch !== this.#epoch) return undefined;
    if (since.offset === this.#offset) return [];
    const first = this.#recent[0]?.offset;
    if (first === undefined || first > since.offset + 1 || since.offset > this.#offset) return undefined;
    return this.#recent.filter(({ offset }) => offset !== undefined && offset > since.offset);
  }
}
