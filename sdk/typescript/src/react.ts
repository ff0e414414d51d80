// Hooks for React.

import {
  createContext,
  createElement,
  useContext,
  useEffect,
  useRef,
  useState,
  useSyncExternalStore,
  type ReactElement,
  type ReactNode,
} from 'react';

import type { Client, ConnectionState, SubscribeOptions } from './client.js';
import { market, type MarketBook, type MarketOptions, type MarketStats, type Quote } from './market.js';
import type { Observable } from './observable.js';

const Given = createContext<Client | null>(null);

/** Gives a client to the components within. It is not closed with them. */
export function TidegateProvider(props: { client: Client; children?: ReactNode }): ReactElement {
  return createElement(Given.Provider, { value: props.client }, props.children);
}

/**
 * The client of the {@link TidegateProvider} around.
 * @throws {Error} outside of one
 */
export function useTidegate(): Client {
  const client = useContext(Given);
  if (client === null) throw new Error('useTidegate needs a TidegateProvider around it');
  return client;
}

/** The value of an observable; renders again when it changes. */
export function useObservable<T>(observable: Observable<T>): T {
  return useSyncExternalStore(observable.subscribe, observable.get, observable.get);
}

/** The state of the connection. */
export function useConnection(): ConnectionState {
  return useObservable(useTidegate().state);
}

/**
 * Subscribes as long as the component is there. Handlers may change from render to render; options
 * count when the channel changes.
 * @param channel `null` for none
 */
export function useSubscription(channel: string | null, options: SubscribeOptions): void {
  const client = useTidegate();
  const latest = useLatest(options);
  useEffect(() => {
    if (channel === null) return;
    const subscription = client.subscribe(channel, {
      ...latest.current,
      onData: (publications) => latest.current.onData?.(publications),
      onSubscribed: (event) => latest.current.onSubscribed?.(event),
      onSubscribing: (event) => latest.current.onSubscribing?.(event),
      onUnsubscribed: (event) => latest.current.onUnsubscribed?.(event),
      onError: (event) => latest.current.onError?.(event),
      onPresence: (event) => latest.current.onPresence?.(event),
      onLost: () => latest.current.onLost?.(),
    });
    return () => subscription.unsubscribe();
  }, [client, channel, latest]);
}

/**
 * Follows groups of symbols as long as the component is there. Rows are drawn in `onFrame`, past
 * React; the statistics render again, four times per second.
 */
export function useMarket(options: MarketOptions): { quotes: ReadonlyMap<string, Quote>; stats: MarketStats | null } {
  const client = useTidegate();
  const latest = useLatest(options);
  const [book, setBook] = useState<MarketBook | null>(null);
  const groups = options.groups.join(' ');
  useEffect(() => {
    const made = market(client, {
      ...latest.current,
      groups: groups === '' ? [] : groups.split(' '),
      onFrame: (changed, info) => latest.current.onFrame?.(changed, info),
    });
    setBook(made);
    return () => {
      setBook(null);
      made.close();
    };
  }, [client, groups, latest]);
  const stats = useObservable<MarketStats | null>(book?.stats ?? NONE);
  return { quotes: book?.quotes ?? EMPTY, stats };
}

function useLatest<T>(value: T): { readonly current: T } {
  const latest = useRef(value);
  useEffect(() => {
    latest.current = value;
  });
  return latest;
}

const EMPTY: ReadonlyMap<string, Quote> = new Map();
const NONE: Observable<null> = { get: () => null, subscribe: () => () => {} };
