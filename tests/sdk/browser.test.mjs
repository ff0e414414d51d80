// The official SDK in headless Chromium against the built gateway, from a page of another origin.

import { after, before, describe, test } from 'node:test';

import { Pages, launch } from './browser.mjs';
import { endSoon } from './events.mjs';
import { PAIRS, Rig } from './rig.mjs';
import { names } from './scenarios.mjs';

const BUNDLE = { json: 'centrifuge.js', protobuf: 'centrifuge.protobuf.js' };
const SCRIPT = 'text/javascript; charset=utf-8';
const local = (path) => new URL(path, import.meta.url);
const bundle = (name) => local(`node_modules/centrifuge/dist/${name}`);
const html = (name) =>
  `<!doctype html><meta charset="utf-8"><title>${name}</title><script src="/${name}"></script>`;

// The pairs run side by side, each with its own gateway and page; the scenarios of a pair one after the other.
describe('chromium', { concurrency: true }, () => {
  let browser;
  let pages;
  before(async () => {
    browser = await launch();
    pages = await Pages.serve({
      '/json': { type: 'text/html', text: html(BUNDLE.json) },
      '/protobuf': { type: 'text/html', text: html(BUNDLE.protobuf) },
      '/centrifuge.js': { type: SCRIPT, file: bundle(BUNDLE.json) },
      '/centrifuge.protobuf.js': { type: SCRIPT, file: bundle(BUNDLE.protobuf) },
      '/scenarios.mjs': { type: SCRIPT, file: local('scenarios.mjs') },
      '/events.mjs': { type: SCRIPT, file: local('events.mjs') },
    });
  });
  after(async () => {
    endSoon();
    await browser?.close();
    pages?.close();
  });

  for (const [transport, encoding] of PAIRS) {
    describe(`${encoding} over ${transport}`, { concurrency: 1 }, () => {
      let rig;
      let page;
      before(async () => {
        rig = await Rig.open([pages.origin]);
        page = await browser.newPage();
        await page.exposeFunction('control', rig.control);
        await page.goto(`${pages.origin}/${encoding}`);
      });
      after(async () => {
        await page?.close();
        await rig?.close();
      });

      for (const name of names) {
        test(name, { timeout: 60_000 }, async () => {
          const setting = { options: rig.options(transport), transport, encoding };
          await page.evaluate(
            async ([name, setting]) => {
              const { run } = await import('/scenarios.mjs');
              const { Centrifuge, control } = globalThis;
              await run(name, { ...setting, Centrifuge, control });
            },
            [name, setting],
          );
        });
      }
    });
  }

  test('a page of a foreign origin is refused', { timeout: 60_000 }, async () => {
    const rig = await Rig.open(['https://app.example']);
    const page = await browser.newPage();
    try {
      await page.goto(`${pages.origin}/json`);
      const opened = await page.evaluate(
        (url) =>
          new Promise((resolve) => {
            const socket = new WebSocket(url);
            socket.onopen = () => resolve(true);
            socket.onerror = () => resolve(false);
          }),
        rig.options('websocket').transports[0].endpoint,
      );
      if (opened) throw new Error('the handshake of a foreign origin was accepted');
    } finally {
      await page.close();
      await rig.close();
    }
  });
});
