// One channel within one tab.

import type { ChannelHandlers } from '../client.js';
import type { ChannelEvent, ChannelOptions, Publication, StreamPosition } from '../messages.js';
import { guarded } from '../observable.js';

export interface Listener {
  handlers: ChannelHandlers;
}

/** The listeners of a channel, and where it stands, so that another hub can go on from there. */
export class LocalChannel {
  readonly name: string;
  readonly #options: ChannelOptions;
  readonly #listeners = new Set<Listener>();
  #subscribed: Extract<ChannelEvent, { event: 'subscribed' }> | null = null;
  #position: StreamPosition | null = null;
  /** Offset of the last publication, within the life of the stream that the position is of. */
  #seen: number | null = null;
  #last: Publication | null = null;

  constructor(name: string, options: ChannelOptions) {
    this.name = name;
    this.#options = options;
  }

  /** Options to subscribe with now. */
  options(): ChannelOptions {
    const since = this.#position ?? this.#options.since;
    return since === undefined ? this.#options : { ...this.#options, since };
  }

  /** Who joins late is told what the others were told, in a later turn. */
  join(listener: Listener, last: boolean): void {
    this.#listeners.add(listener);
    const subscribed = this.#subscribed;
    const publication = last ? this.#last : null;
    if (subscribed === null && publication === null) return;
    queueMicrotask(() => {
      if (!this.#listeners.has(listener)) return;
      if (subscribed !== null) tell(listener.handlers, subscribed);
      if (publication !== null) guarded(() => listener.handlers.onData?.([publication]));
    });
  }

  /** @returns whether nobody listens any more */
  leave(listener: Listener): boolean {
    return this.#listeners.delete(listener) && this.#listeners.size === 0;
  }

  event(event: ChannelEvent): void {
    if (event.event === 'subscribed') {
      this.#subscribed = event;
      this.#go(event);
    } else if (event.event === 'subscribing' || event.event === 'unsubscribed') {
      this.#subscribed = null;
    }
    for (const { handlers } of [...this.#listeners]) tell(handlers, event);
  }

  data(publications: Publication[]): void {
    const fresh = publications.filter((publication) => this.#advance(publication));
    this.#last = fresh.at(-1) ?? this.#last;
    if (fresh.length === 0) return;
    for (const { handlers } of [...this.#listeners]) guarded(() => handlers.onData?.(fresh));
  }

  /** Where the stream goes on: where it was when nothing is missing, else where the server is. */
  #go(event: Extract<ChannelEvent, { event: 'subscribed' }>): void {
    const { position, recovered, recoverable } = event;
    const since = this.#position ?? this.#options.since;
    if (recovered && since?.epoch === position?.epoch) {
      this.#position = since ?? null;
    } else {
      this.#position = recoverable ? (position ?? null) : null;
      this.#seen = null;
    }
  }

  /** @returns whether it is new: another hub may go on from an earlier position, that of another tab */
  #advance({ offset }: Publication): boolean {
    if (offset === undefined || this.#position === null) return true;
    if (this.#seen !== null && offset <= this.#seen) return false;
    this.#seen = offset;
    this.#position = { ...this.#position, offset };
    return true;
  }
}

function tell(handlers: ChannelHandlers, event: ChannelEvent): void {
  guarded(() => {
    switch (event.event) {
      case 'subscribed':
        return handlers.onSubscribed?.(event);
      case 'subscribing':
        return handlers.onSubscribing?.(event);
      case 'unsubscribed':
        return handlers.onUnsubscribed?.(event);
      case 'error':
        return handlers.onError?.(event);
      case 'join':
      case 'leave':
        return handlers.onPresence?.(event);
      case 'lost':
        return handlers.onLost?.();
    }
  });
}
