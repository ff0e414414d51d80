// A TCP link between clients and the gateway that can be cut and mended.

import { connect, createServer } from 'node:net';
import { once } from 'node:events';

export class Link {
  /** @param {() => string} target the address to forward to, asked for each connection */
  static async open(target) {
    const link = new Link(target);
    link.server.listen(0, '127.0.0.1');
    await once(link.server, 'listening');
    link.address = `127.0.0.1:${link.server.address().port}`;
    return link;
  }

  constructor(target) {
    this.target = target;
    this.sockets = new Set();
    this.whole = true;
    this.server = createServer((client) => this.#forward(client));
  }

  /** Resets every connection and refuses new ones. */
  cut() {
    this.whole = false;
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  mend() {
    this.whole = true;
  }

  close() {
    this.cut();
    this.server.close();
  }

  #forward(client) {
    if (!this.whole) {
      client.resetAndDestroy();
      return;
    }
    const [host, port] = this.target().split(':');
    const upstream = connect({ host, port: Number(port), noDelay: true });
    client.setNoDelay(true);
    for (const [socket, other] of [[client, upstream], [upstream, client]]) {
      this.sockets.add(socket);
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        this.sockets.delete(socket);
        other.destroySoon();
      });
      socket.pipe(other);
    }
  }
}
