// A nats-server with JetStream that can be killed and started again: same port, same files.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { until } from './wait.mjs';

export class Nats {
  static async start() {
    const nats = new Nats();
    nats.port = await freePort();
    nats.folder = mkdtempSync(join(tmpdir(), 'tidegate-nats-'));
    await nats.start();
    return nats;
  }

  get url() {
    return `nats://127.0.0.1:${this.port}`;
  }

  /** Resolves once it greets clients, which it does when its streams are recovered. */
  async start() {
    const listen = ['--addr', '127.0.0.1', '--port', String(this.port)];
    this.child = spawn(program(), [...listen, '--jetstream', '--store_dir', this.folder], { stdio: 'ignore' });
    this.exited = once(this.child, 'exit');
    process.once('exit', () => this.child.kill('SIGKILL'));
    await until('nats-server greets', 10_000, () => greets(this.port));
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.exited;
  }

  async remove() {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The one that `cargo xtask deps` unpacks, or else the one on the path. */
function program() {
  const folders = [
    process.env.TIDEGATE_SERVICES ?? '',
    fileURLToPath(new URL('../../target/services', import.meta.url)),
  ];
  const unpacked = folders.map((folder) => join(folder, 'nats-server/usr/sbin/nats-server')).find(existsSync);
  if (unpacked) return unpacked;
  if (spawnSync('nats-server', ['--version']).error) throw new Error('no nats-server: cargo xtask deps');
  return 'nats-server';
}

async function greets(port) {
  const socket = connect(port, '127.0.0.1');
  try {
    const [greeting] = await once(socket, 'data');
    return String(greeting).startsWith('INFO');
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function freePort() {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}
