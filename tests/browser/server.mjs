// The gateway as these tests look at it: what it says itself about who is connected.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { Gateway } from '../sdk/gateway.mjs';

/** A gateway with an administrator. */
export class Server {
  /** As `Gateway.start`. */
  static async start(config, env) {
    const gateway = await Gateway.start(config, env);
    // The executable stands first on the path of its environment.
    const asked = promisify(execFile)('tidegate', ['admin-token', '--name', 'ops', ...file(config)], {
      cwd: gateway.folder,
      env: gateway.environment(),
    });
    return new Server(gateway, (await asked).stdout.trim());
  }

  constructor(gateway, token) {
    this.gateway = gateway;
    this.token = token;
  }

  get main() {
    return `http://${this.gateway.address.main}`;
  }

  get admin() {
    return `http://${this.gateway.address.admin}`;
  }

  /** What a path of the administrator's API answers. */
  async ask(path, method = 'GET', body = undefined) {
    const response = await fetch(`${this.admin}${path}`, {
      method,
      headers: { Authorization: `Bearer ${this.token}`, 'Content-Type': 'application/json' },
      body: body && JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${method} ${path}: HTTP ${response.status} ${await response.text()}`);
    return response.status === 204 ? undefined : response.json();
  }

  /** Who is connected. */
  async connections() {
    return (await this.ask('/admin/connections')).connections;
  }

  /** How many WebSockets there are: by the list of connections and by the metrics, which must agree. */
  async sockets() {
    const [listed, open] = await Promise.all([this.connections(), this.metric('gateway_websocket_connections_active')]);
    return listed.length === open ? open : NaN;
  }

  /** How many WebSockets there have been since its start. */
  opened() {
    return this.metric('gateway_websocket_connections_total');
  }

  async metric(name) {
    const text = await (await fetch(`${this.admin}/metrics`)).text();
    const line = text.split('\n').find((each) => each.startsWith(`${name} `));
    if (line === undefined) throw new Error(`no metric ${name}`);
    return Number(line.slice(name.length));
  }

  remove() {
    return this.gateway.remove();
  }
}

function file(config) {
  return config === null ? [] : ['-c', 'tidegate.yaml'];
}
