/** Requests to the administrator's API, with the token of whoever has logged in. */

/** Why a request came to nothing. `status` is 0 if no answer came. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  /** The body of the answer, if it was JSON. */
  readonly body: unknown;

  constructor(status: number, code: string, message: string, body?: unknown) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
    this.body = body;
  }
}

export interface Asking {
  method?: string;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
}

/** How long an answer may take, in milliseconds. */
export const PATIENCE_MS = 15_000;

export class Api {
  readonly #token: string;
  readonly #refused: () => void;
  readonly #fetch: typeof fetch;

  /** `refused` is called when the token is not, or no longer, good. */
  constructor(token: string, refused: () => void, ask: typeof fetch = (...rest) => fetch(...rest)) {
    this.#token = token;
    this.#refused = refused;
    this.#fetch = ask;
  }

  /** The JSON of an answer; `undefined` for an answer without a body. */
  async ask<T>(path: string, asking: Asking = {}): Promise<T> {
    const late = AbortSignal.timeout(PATIENCE_MS);
    const signal = asking.signal ? AbortSignal.any([asking.signal, late]) : late;
    const response = await this.#send(path, { ...asking, signal });
    const text = await response.text().catch((error: unknown) => {
      throw lost(error);
    });
    if (text === '') return undefined as T;
    try {
      return JSON.parse(text) as T;
    } catch {
      throw new ApiError(response.status, 'malformed', 'the answer is not JSON');
    }
  }

  /** Server-sent events whose data is JSON, until the stream ends or `signal` says so. */
  async follow(path: string, signal: AbortSignal, heard: (event: unknown) => void): Promise<void> {
    const response = await this.#send(path, { signal, headers: { accept: 'text/event-stream' } });
    if (!response.body || !response.headers.get('content-type')?.startsWith('text/event-stream')) {
      throw new ApiError(response.status, 'malformed', 'the answer is no stream of events');
    }
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    const events = new EventReader();
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        for (const data of events.read(decoder.decode(value, { stream: true }))) {
          try {
            heard(JSON.parse(data));
          } catch {
            // One event that cannot be read does not end the stream.
          }
        }
      }
    } catch (error) {
      throw lost(error);
    } finally {
      reader.cancel().catch(() => undefined);
    }
  }

  async #send(path: string, { method = 'GET', body, headers, signal }: Asking): Promise<Response> {
    const init: RequestInit = {
      method,
      headers: { ...headers, authorization: `Bearer ${this.#token}` },
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
    };
    if (signal) init.signal = signal;
    if (body !== undefined) {
      init.body = JSON.stringify(body);
      init.headers = { ...init.headers, 'content-type': 'application/json' };
    }
    const response = await this.#fetch(path, init).catch((error: unknown) => {
      throw lost(error);
    });
    if (response.ok) return response;
    if (response.status === 401) this.#refused();
    throw await refusal(response);
  }
}

/** Says whether it was given up rather than refused. */
export function isAborted(error: unknown): boolean {
  return error instanceof ApiError && error.code === 'aborted';
}

function lost(error: unknown): ApiError {
  const name = error instanceof Error ? error.name : '';
  if (name === 'AbortError') return new ApiError(0, 'aborted', 'the request was given up');
  if (name === 'TimeoutError') return new ApiError(0, 'timed_out', `no answer within ${PATIENCE_MS / 1_000} s`);
  return new ApiError(0, 'unreachable', 'the gateway can’t be reached');
}

/** What the gateway said, in either of its shapes: `{error: {code, message}}` or `{message}`. */
async function refusal(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => '');
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    // An answer without JSON has its status, and that has to do.
  }
  const said = body as { error?: { code?: string; message?: string } | string; message?: string } | undefined;
  const error = typeof said?.error === 'object' ? said.error : undefined;
  const message = error?.message ?? said?.message ?? `HTTP ${response.status}`;
  return new ApiError(response.status, error?.code ?? 'refused', message, body);
}

/** Takes text as it comes and gives back the data of each event that is whole. */
export class EventReader {
  #rest = '';

  read(text: string): string[] {
    // Done to the whole, as a part may end between the two.
    this.#rest = (this.#rest + text).replaceAll('\r\n', '\n');
    const parts = this.#rest.split('\n\n');
    this.#rest = parts.pop() ?? '';
    if (this.#rest.length > EVENT_MAX) this.#rest = '';
    return parts.flatMap((part) => {
      const lines = part.split('\n').filter((line) => line.startsWith('data:'));
      return lines.length === 0 ? [] : [lines.map((line) => line.slice(5).replace(/^ /, '')).join('\n')];
    });
  }
}

const EVENT_MAX = 1 << 20;
