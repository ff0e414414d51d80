import { type MouseEvent, type ReactNode, useCallback, useSyncExternalStore } from 'react';

/** Where the console is served. */
export const BASE = '/console/';

/** A place in the console: the page, what it shows, and how it is narrowed down. */
export interface Route {
  page: string;
  /** What follows the page in the path, decoded; empty for a list. */
  item: string;
  query: URLSearchParams;
}

export function parseRoute(path: string, search: string): Route {
  const below = path.startsWith(BASE) ? path.slice(BASE.length) : '';
  const [page = '', ...rest] = below.split('/');
  return { page, item: decoded(rest.join('/')), query: new URLSearchParams(search) };
}

/** The address of a place; empty values of the query are left out. */
export function href(page: string, item = '', query: Record<string, string> = {}): string {
  const kept = Object.entries(query).filter(([, value]) => value !== '');
  const search = kept.length > 0 ? `?${new URLSearchParams(kept)}` : '';
  return `${BASE}${page}${item === '' ? '' : `/${encodeURIComponent(item)}`}${search}`;
}

export function go(address: string, { replace = false } = {}) {
  if (replace) history.replaceState(null, '', address);
  else history.pushState(null, '', address);
  dispatchEvent(new Event(CHANGED));
}

export function useRoute(): Route {
  const address = useSyncExternalStore(listen, () => `${location.pathname}${location.search}`);
  const [path = '', search = ''] = split(address);
  return parseRoute(path, search);
}

/** A link within the console; with a modifier it does what the browser does. */
export function Link({ to, children, ...rest }: { to: string; children: ReactNode; className?: string; 'aria-current'?: 'page' | undefined }) {
  const follow = useCallback(
    (event: MouseEvent) => {
      if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      go(to);
    },
    [to],
  );
  return (
    <a href={to} onClick={follow} {...rest}>
      {children}
    </a>
  );
}

const CHANGED = 'tidegate-route';

function listen(changed: () => void) {
  addEventListener('popstate', changed);
  addEventListener(CHANGED, changed);
  return () => {
    removeEventListener('popstate', changed);
    removeEventListener(CHANGED, changed);
  };
}

function split(address: string): [string, string] {
  const at = address.indexOf('?');
  return at < 0 ? [address, ''] : [address.slice(0, at), address.slice(at)];
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
