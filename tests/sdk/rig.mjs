// A gateway behind a link that can be cut, and what scenarios may ask of the outside.

import { Gateway, expiry, mint } from './gateway.mjs';
import { Link } from './link.mjs';

const CONNECTION_SECRET = 'a secret for connection tokens, of tests only';
const SUBSCRIPTION_SECRET = 'a secret for subscription tokens, of tests only';

const OPEN = {
  allow_subscribe_for_client: true,
  allow_publish_for_client: true,
  allow_history_for_client: true,
  allow_presence_for_client: true,
};

function configuration(origins) {
  return {
    access: { allowed_origins: origins },
    client: {
      token: { hmac_secret_key: CONNECTION_SECRET },
      subscription_token: { enabled: true, hmac_secret_key: SUBSCRIPTION_SECRET },
    },
    channel: {
      namespaces: [
        {
          name: 'chat',
          presence: true,
          join_leave: true,
          force_push_join_leave: true,
          history_size: 100,
          history_ttl: '300s',
          force_recovery: true,
          ...OPEN,
        },
        { name: 'vault' },
      ],
    },
    http_stream: { enabled: true },
    sse: { enabled: true },
    rpc: { ping: { enabled: true } },
    http_api: { key: 'a key of tests only' },
    drain: { grace: '5s', rate: 1000 },
  };
}

/** Every pair of transport and encoding that the SDK can speak. */
export const PAIRS = [
  ['websocket', 'json'],
  ['websocket', 'protobuf'],
  ['http_stream', 'json'],
  ['http_stream', 'protobuf'],
  ['sse', 'json'],
];

export class Rig {
  /** @param {string[]} origins what browsers may call from */
  static async open(origins = []) {
    const rig = new Rig();
    rig.gateway = await Gateway.start(configuration(origins));
    rig.link = await Link.open(() => rig.gateway.address.main);
    return rig;
  }

  async close() {
    this.link.close();
    await this.gateway.remove();
  }

  /** Transports and client options of the SDK for one pair. */
  options(transport) {
    const { address } = this.link;
    const scheme = transport === 'websocket' ? 'ws' : 'http';
    return {
      transports: [{ transport, endpoint: `${scheme}://${address}/connection/${transport}` }],
      client: { emulationEndpoint: `http://${address}/emulation` },
    };
  }

  /** What a scenario may ask for, by name. */
  control = (name, ...given) => this.#controls[name](...given);

  #controls = {
    connectionToken: (sub, seconds = 600) => mint(CONNECTION_SECRET, { sub, exp: expiry(seconds) }),
    foreignToken: (sub) => mint('somebody else', { sub, exp: expiry(600) }),
    subscriptionToken: (sub, channel, seconds = 600) =>
      mint(SUBSCRIPTION_SECRET, { sub, channel, exp: expiry(seconds) }),
    publish: (channel, data) => this.gateway.api('publish', { channel, data }),
    cut: () => this.link.cut(),
    mend: () => this.link.mend(),
    crash: () => this.gateway.stop('SIGKILL'),
    drain: () => this.gateway.stop('SIGTERM'),
    start: () => this.gateway.start(),
  };
}
