// The official SDK in Node against the built gateway.

import { after, before, describe, test } from 'node:test';

import { Centrifuge as JsonCentrifuge } from 'centrifuge';
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf';
import EventSource from 'eventsource';
import WebSocket from 'ws';

import { endSoon } from './events.mjs';
import { PAIRS, Rig } from './rig.mjs';
import { names, run } from './scenarios.mjs';

const SDK = { json: JsonCentrifuge, protobuf: ProtobufCentrifuge };
const PLATFORM = {
  websocket: WebSocket,
  fetch,
  readableStream: ReadableStream,
  eventsource: EventSource,
};

// The pairs run side by side, each with its own gateway; the scenarios of a pair one after the other.
describe('node', { concurrency: true }, () => {
  after(endSoon);

  for (const [transport, encoding] of PAIRS) {
    describe(`${encoding} over ${transport}`, { concurrency: 1 }, () => {
      let rig;
      before(async () => {
        rig = await Rig.open();
      });
      after(() => rig?.close());

      for (const name of names) {
        test(name, { timeout: 60_000 }, async () => {
          const { transports, client } = rig.options(transport);
          const options = { transports, client: { ...client, ...PLATFORM } };
          const Centrifuge = SDK[encoding];
          const control = async (...asked) => rig.control(...asked);
          await run(name, { Centrifuge, options, transport, encoding, control });
        });
      }
    });
  }
});
