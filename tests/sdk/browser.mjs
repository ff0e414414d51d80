// Headless Chromium, and pages served to it.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

/** Starts the browser of the system. */
export function launch() {
  const names = ['chromium', 'chromium-browser', 'google-chrome'];
  const places = (process.env.PATH ?? '').split(':');
  const candidates = places.flatMap((place) => names.map((name) => join(place, name)));
  const executablePath = candidates.find((path) => existsSync(path));
  if (executablePath === undefined) throw new Error('no Chromium on the path: cargo xtask deps');
  // Its sandbox needs more rights than a container gives; the pages are ours.
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
}

/** Serves a few named files of this machine; anything else is 404. */
export class Pages {
  /** @param {Record<string, {type: string, file?: URL, text?: string}>} pages by path */
  static async serve(pages) {
    const served = new Pages();
    served.server = createServer(async (request, response) => {
      const page = pages[request.url];
      response.writeHead(page ? 200 : 404, { 'Content-Type': page?.type ?? 'text/plain' });
      response.end(page?.text ?? (page && (await readFile(page.file))));
    });
    served.server.listen(0, '127.0.0.1');
    await once(served.server, 'listening');
    served.origin = `http://127.0.0.1:${served.server.address().port}`;
    return served;
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }
}
