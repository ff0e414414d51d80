// What stands behind the proxy in the examples of the guides: a web service and a model.

import { once } from 'node:events';
import { createServer } from 'node:http';

import { WebSocketServer } from 'ws';

/** A server on a port of its own, until `close`. */
async function listening(server) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: String(server.address().port),
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

async function text(request) {
  let whole = '';
  for await (const part of request.setEncoding('utf8')) whole += part;
  return whole;
}

function json(response, status, value) {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(value));
}

/**
 * A web service that tells what it was asked. `/events` is a stream of three events, `/fail` fails,
 * and WebSockets say everything back.
 */
export function startService(name) {
  const server = createServer(async (request, response) => {
    const { method, url, headers } = request;
    const body = await text(request);
    if (url.startsWith('/fail')) return json(response, 503, { error: 'out of order' });
    if (!url.startsWith('/events')) return json(response, 200, { name, method, path: url, headers, body });
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    for (const number of [1, 2, 3]) response.write(`data: ${number}\n\n`);
    return response.end();
  });
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(String(data))));
  return listening(server);
}

const SPOKEN = ['The ', 'tide ', 'is ', 'high.'];

/**
 * A model that speaks both dialects and always says the same. The model `half` breaks off in the
 * middle of what it says, `busy` has no capacity.
 */
export function startModel() {
  const server = createServer(async (request, response) => {
    const { model, stream } = JSON.parse(await text(request));
    if (model === 'busy') return json(response, 503, { error: { message: 'no capacity' } });
    const dialect = request.url.endsWith('/messages') ? anthropic : openai;
    if (!stream) return json(response, 200, dialect.whole(model));
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    const events = dialect.events(model);
    const said = model === 'half' ? events.slice(0, 4) : events;
    for (const event of said) response.write(event);
    return model === 'half' ? setImmediate(() => response.destroy()) : response.end();
  });
  return listening(server);
}

const openai = {
  whole: (model) => ({
    id: 'chatcmpl-1',
    object: 'chat.completion',
    created: 1,
    model,
    choices: [
      { index: 0, message: { role: 'assistant', content: SPOKEN.join('') }, finish_reason: 'stop' },
    ],
    usage: { prompt_tokens: 9, completion_tokens: 5, total_tokens: 14 },
  }),
  events: (model) => {
    const chunk = (choices, rest) =>
      `data: ${JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model, choices, ...rest })}\n\n`;
    const usage = { prompt_tokens: 9, completion_tokens: 5, total_tokens: 14 };
    return [
      ...SPOKEN.map((content) => chunk([{ index: 0, delta: { content }, finish_reason: null }])),
      chunk([{ index: 0, delta: {}, finish_reason: 'stop' }]),
      chunk([], { usage }),
      'data: [DONE]\n\n',
    ];
  },
};

const anthropic = {
  whole: (model) => ({
    id: 'msg_1',
    type: 'message',
    role: 'assistant',
    model,
    content: [{ type: 'text', text: SPOKEN.join('') }],
    stop_reason: 'end_turn',
    stop_sequence: null,
    usage: { input_tokens: 9, output_tokens: 5 },
  }),
  events: (model) => {
    const event = (value) => `event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`;
    const usage = { input_tokens: 9, output_tokens: 1 };
    const message = { ...anthropic.whole(model), content: [], stop_reason: null, usage };
    return [
      event({ type: 'message_start', message }),
      event({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } }),
      ...SPOKEN.map((said) =>
        event({ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: said } }),
      ),
      event({ type: 'content_block_stop', index: 0 }),
      event({
        type: 'message_delta',
        delta: { stop_reason: 'end_turn', stop_sequence: null },
        usage: { output_tokens: 5 },
      }),
      event({ type: 'message_stop' }),
    ];
  },
};
