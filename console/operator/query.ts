import { createContext, useCallback, useContext, useEffect, useRef, useState } from 'react';

import { type Api, ApiError, isAborted } from './api';

export const ApiContext = createContext<Api | null>(null);

export function useApi(): Api {
  const api = useContext(ApiContext);
  if (!api) throw new Error('no one is logged in');
  return api;
}

/** What is known of an answer. An older answer stays while a newer one is asked for. */
export interface Query<T> {
  data: T | undefined;
  error: ApiError | undefined;
  loading: boolean;
  refresh: () => void;
}

/** Asks for `path` now, when it changes, and every `everyMs` while the page is seen. `null` asks nothing. */
export function useQuery<T>(path: string | null, everyMs = 0): Query<T> {
  const api = useApi();
  const [state, setState] = useState<{ path: string | null; data?: T; error?: ApiError; loading: boolean }>({ path, loading: path !== null });
  const [turn, setTurn] = useState(0);
  const shown = useRef(path);

  useEffect(() => {
    if (path === null) return;
    const giveUp = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const same = shown.current === path;
    shown.current = path;
    setState((before) => ({ path, loading: true, ...(same && before.data !== undefined ? { data: before.data } : {}) }));
    const ask = async () => {
      if (document.visibilityState === 'hidden' && everyMs > 0) return again();
      try {
        const data = await api.ask<T>(path, { signal: giveUp.signal });
        setState({ path, data, loading: false });
      } catch (error) {
        if (giveUp.signal.aborted || isAborted(error)) return;
        const known = error instanceof ApiError ? error : new ApiError(0, 'internal', String(error));
        setState((before) => ({ ...before, path, error: known, loading: false }));
      }
      again();
    };
    const again = () => {
      if (everyMs > 0 && !giveUp.signal.aborted) timer = setTimeout(ask, everyMs);
    };
    void ask();
    return () => {
      giveUp.abort();
      clearTimeout(timer);
    };
  }, [api, path, everyMs, turn]);

  const refresh = useCallback(() => setTurn((before) => before + 1), []);
  const current = state.path === path ? state : { loading: path !== null };
  return { data: 'data' in current ? current.data : undefined, error: 'error' in current ? current.error : undefined, loading: current.loading, refresh };
}

/** A text that follows another one once that has rested. */
export function useRested(text: string, restMs = 250): string {
  const [rested, setRested] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => setRested(text), restMs);
    return () => clearTimeout(timer);
  }, [text, restMs]);
  return rested;
}
