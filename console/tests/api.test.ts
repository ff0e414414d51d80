import { describe, expect, test, vi } from 'vitest';

import { Api, ApiError, EventReader, isAborted } from '../operator/api';

const answering = (status: number, body: string, type = 'application/json') => vi.fn(async () => new Response(status === 204 ? null : body, { status, headers: { 'content-type': type } })) as unknown as typeof fetch & ReturnType<typeof vi.fn>;
const failure = async (promise: Promise<unknown>): Promise<ApiError> => {
  const error = await promise.then(() => null, (reason: unknown) => reason);
  if (!(error instanceof ApiError)) throw new Error(`no ApiError: ${String(error)}`);
  return error;
};

describe('requests', () => {
  test('carry the token in a header and nowhere else', async () => {
    const ask = answering(200, '{"version":1}');
    const api = new Api('s3cret', () => undefined, ask);
    expect(await api.ask('/admin/feature-flags', { method: 'POST', body: { flags: {} } })).toEqual({ version: 1 });
    const [path, init] = ask.mock.calls[0] as [string, RequestInit];
    expect(path).not.toContain('s3cret');
    expect(init.headers).toMatchObject({ authorization: 'Bearer s3cret', 'content-type': 'application/json' });
    expect(init).toMatchObject({ credentials: 'omit', redirect: 'error', cache: 'no-store' });
  });

  test('without an answer’s body give nothing', async () => {
    expect(await new Api('t', () => undefined, answering(204, '')).ask('/admin/connections/x', { method: 'DELETE' })).toBeUndefined();
  });

  test('that are refused say why, in each shape the gateway has', async () => {
    const of = (status: number, body: string) => failure(new Api('t', () => undefined, answering(status, body)).ask('/x'));
    expect(await of(422, '{"error":{"code":"refused","message":"no such thing"}}')).toMatchObject({ status: 422, code: 'refused', message: 'no such thing' });
    expect(await of(400, '{"status":400,"message":"Something went wrong.","data":{}}')).toMatchObject({ status: 400, message: 'Something went wrong.' });
    expect(await of(502, '<html>')).toMatchObject({ status: 502, message: 'HTTP 502' });
  });

  test('with a token that is not accepted end the session, others do not', async () => {
    const refused = vi.fn();
    expect((await failure(new Api('t', refused, answering(401, '')).ask('/x'))).status).toBe(401);
    expect(refused).toHaveBeenCalledTimes(1);
    await failure(new Api('t', refused, answering(429, '')).ask('/x'));
    await failure(new Api('t', refused, answering(403, '')).ask('/x'));
    expect(refused).toHaveBeenCalledTimes(1);
  });

  test('that get no answer are told from those that were given up', async () => {
    const broken = new Api('t', () => undefined, (async () => { throw new TypeError('fetch failed'); }) as typeof fetch);
    expect(await failure(broken.ask('/x'))).toMatchObject({ status: 0, code: 'unreachable' });
    const giveUp = new AbortController();
    const waiting = new Api('t', () => undefined, ((_: string, init: RequestInit) => new Promise((_resolve, reject) => init.signal?.addEventListener('abort', () => reject(init.signal?.reason)))) as typeof fetch);
    const asked = failure(waiting.ask('/x', { signal: giveUp.signal }));
    giveUp.abort();
    expect(isAborted(await asked)).toBe(true);
  });

  test('whose answer is no JSON fail', async () => {
    expect(await failure(new Api('t', () => undefined, answering(200, 'oops')).ask('/x'))).toMatchObject({ code: 'malformed' });
  });
});

describe('streams of events', () => {
  test('are put together from whatever parts they come in', () => {
    const text = ': hello\n\ndata: {"a":1}\n\nevent: x\r\ndata: one\r\ndata: two\r\n\r\ndata:{"b"';
    for (let size = 1; size <= text.length; size += 1) {
      const reader = new EventReader();
      const found: string[] = [];
      for (let at = 0; at < text.length; at += size) found.push(...reader.read(text.slice(at, at + size)));
      expect(found, `in parts of ${size}`).toEqual(['{"a":1}', 'one\ntwo']);
    }
  });

  test('that never end an event are not kept for ever', () => {
    const reader = new EventReader();
    for (let turn = 0; turn < 20; turn += 1) expect(reader.read('x'.repeat(100_000))).toEqual([]);
    expect(reader.read('\n\ndata: y\n\n')).toContain('y');
  });

  test('are read until they end', async () => {
    const api = new Api('t', () => undefined, answering(200, 'data: {"n":1}\n\ndata: broken\n\ndata: {"n":2}\n\n', 'text/event-stream'));
    const heard: unknown[] = [];
    await api.follow('/admin/overview/stream', new AbortController().signal, (event) => heard.push(event));
    expect(heard).toEqual([{ n: 1 }, { n: 2 }]);
  });

  test('that are no streams are refused', async () => {
    const api = new Api('t', () => undefined, answering(200, '{}'));
    expect((await failure(api.follow('/x', new AbortController().signal, () => undefined))).code).toBe('malformed');
  });
});
