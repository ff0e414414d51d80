// Starts the built gateway as a child process and learns its addresses from its log.

import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { within } from './events.mjs';

const BINARY =
  process.env.TIDEGATE_BIN ?? fileURLToPath(new URL('../../target/debug/tidegate', import.meta.url));

const children = new Set();
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

/** A gateway with its own data folder; it may be stopped and started again on the same ports. */
export class Gateway {
  /**
   * @param {object|string|null} config the configuration file: its text, or an object, for JSON is YAML;
   *   null runs without a file. Ports and data folder are the gateway's own, whatever it says.
   * @param {Record<string, string>} env added to a cleaned environment
   */
  static async start(config, env = {}) {
    const gateway = new Gateway(config, env);
    await gateway.start();
    return gateway;
  }

  constructor(config, env) {
    this.config = config;
    this.env = env;
    this.folder = mkdtempSync(join(tmpdir(), 'tidegate-sdk-'));
    this.address = { main: '127.0.0.1:0', admin: '127.0.0.1:0' };
    this.log = [];
  }

  /** Starts the process; resolves when both listeners are bound. */
  async start() {
    if (!existsSync(BINARY)) {
      throw new Error(`${BINARY} is missing: cargo build --package tidegate`);
    }
    const child = spawn(BINARY, this.#arguments(), {
      cwd: this.folder,
      env: this.environment(),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    children.add(child);
    this.child = child;
    this.exited = new Promise((resolve) => {
      child.on('exit', (code, signal) => {
        children.delete(child);
        resolve({ code, signal });
      });
    });
    const bound = this.#readLog(child);
    const died = this.exited.then(({ code, signal }) => {
      throw new Error(`the gateway ended (${code ?? signal}) before it listened:\n${this.tail()}`);
    });
    died.catch(() => {});
    await within(15_000, 'the gateway listens', Promise.race([bound, died]), () => this.tail());
  }

  /** Sends a signal and resolves with how the process ended. */
  async stop(signal = 'SIGTERM') {
    this.child.kill(signal);
    return within(15_000, `the gateway ends on ${signal}`, this.exited, () => this.tail());
  }

  /** Stops for good and removes the data folder. */
  async remove() {
    if (children.has(this.child)) await this.stop('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Calls a method of the server API. */
  async api(method, request) {
    const response = await fetch(`http://${this.address.admin}/api/${method}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'X-API-Key': this.config.http_api.key },
      body: JSON.stringify(request),
    });
    if (response.status !== 200) throw new Error(`server API ${method}: HTTP ${response.status}`);
    const { result, error } = await response.json();
    if (error) throw new Error(`server API ${method}: ${error.code} ${error.message}`);
    return result;
  }

  /** The last lines of the log, for messages of failures. */
  tail() {
    return this.log.slice(-40).join('\n');
  }

  /** The environment of the process, good for the other commands of the executable too. */
  environment() {
    return {
      PATH: `${dirname(BINARY)}:${process.env.PATH}`,
      TIDEGATE_DATA_DIR: join(this.folder, 'data'),
      TIDEGATE_LISTENERS_MAIN_ADDRESS: this.address.main,
      TIDEGATE_LISTENERS_ADMIN_ADDRESS: this.address.admin,
      ...this.env,
    };
  }

  #arguments() {
    if (this.config === null) return [];
    const text = typeof this.config === 'string' ? this.config : JSON.stringify(this.config, null, 2);
    writeFileSync(join(this.folder, 'tidegate.yaml'), text);
    return ['-c', 'tidegate.yaml'];
  }

  #readLog(child) {
    return new Promise((resolve) => {
      const bound = new Set();
      let rest = '';
      child.stderr.setEncoding('utf8');
      child.stderr.on('data', (text) => {
        const lines = (rest + text).split('\n');
        rest = lines.pop();
        for (const line of lines) {
          this.log.push(line);
          const { message, listener, address } = parsed(line);
          if (message !== 'listening' || !(listener in this.address)) continue;
          this.address[listener] = address;
          bound.add(listener);
          if (bound.size === 2) resolve();
        }
      });
    });
  }
}

function parsed(line) {
  try {
    return JSON.parse(line);
  } catch {
    return {};
  }
}

/** A JWT signed with HS256. */
export function mint(secret, claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** Now plus `seconds`, as JWT claims count time. */
export function expiry(seconds) {
  return Math.floor(Date.now() / 1000) + seconds;
}
