// The tests' own gRPC service over Quantum (`e2e::desk`), as a child process behind a link that loses datagrams.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { within } from './events.mjs';

const TARGET = process.env.TIDEGATE_BIN
  ? dirname(process.env.TIDEGATE_BIN)
  : fileURLToPath(new URL('../../target/debug', import.meta.url));
const BINARY = join(TARGET, 'examples/desk');

export class Desk {
  /** What it has logged: lines of JSON. */
  log = [];
  /** Where it listens, by way: `tcp`, `quantum`, `link`. */
  address = {};

  /**
   * Resolves when it is ready.
   * @param {number} loss the share of datagrams that the link loses, each way
   */
  static async start(loss) {
    if (!existsSync(BINARY)) throw new Error(`${BINARY} is missing: cargo build --package e2e --example desk`);
    const desk = new Desk();
    desk.folder = mkdtempSync(join(tmpdir(), 'tidegate-desk-'));
    const given = [`keys=${join(desk.folder, 'keys')}`, `loss=${loss}`, 'delay_ms=2'];
    desk.child = spawn(BINARY, given, { stdio: ['ignore', 'pipe', 'inherit'] });
    process.on('exit', () => desk.child.kill('SIGKILL'));
    desk.ended = new Promise((resolve) => desk.child.on('close', resolve));
    const lines = createInterface({ input: desk.child.stdout });
    const ready = new Promise((resolve) => {
      lines.on('line', (line) => {
        const said = JSON.parse(line);
        desk.log.push(said);
        if (said.message === 'listening') desk.address[said.way] = said.address;
        if (said.message === 'ready') resolve();
      });
    });
    await within(15_000, 'the service is ready', ready, () => JSON.stringify(desk.log));
    return desk;
  }

  /** As the gateway's configuration has it. */
  service() {
    const file = (name) => join(this.folder, 'keys', name);
    const tls = { ca: file('authority.pem'), certificate: file('client.pem'), key: file('client-key.pem') };
    return { name: 'desk', endpoints: [`quantum://${this.address.link}`], tls: { ...tls, server_name: 'localhost' } };
  }

  /** Stops it as an operator would; what the link has carried. */
  async stop() {
    this.child.kill('SIGTERM');
    await within(15_000, 'the service ends', this.ended);
    return this.log.find(({ message }) => message === 'link');
  }

  remove() {
    this.child.kill('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }
}
