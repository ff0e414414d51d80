// Chromium as these tests use it: pages that complain fail, SharedWorkers can be found and ended.

import { launch } from '../sdk/browser.mjs';
import { until } from './wait.mjs';

export class Chromium {
  static async start() {
    const chromium = new Chromium();
    chromium.browser = await launch();
    chromium.devtools = await chromium.browser.newBrowserCDPSession();
    return chromium;
  }

  /**
   * A browser of its own, as far as storage and workers are concerned.
   * @param {() => void} before runs in each page before the page's own scripts
   */
  async profile({ before, ...options } = {}) {
    const context = await this.browser.newContext(options);
    context.setDefaultTimeout(10_000);
    if (before) await context.addInitScript(before);
    return new Profile(context);
  }

  async workers(origin) {
    const { targetInfos } = await this.devtools.send('Target.getTargets');
    return targetInfos.filter(({ type, url }) => type === 'shared_worker' && url.startsWith(origin));
  }

  /** Ends the SharedWorker of an origin as a crash would. */
  async crashWorker(origin) {
    const [worker, ...others] = await this.workers(origin);
    if (worker === undefined || others.length > 0) throw new Error(`${others.length + (worker ? 1 : 0)} workers of ${origin}`);
    await this.devtools.send('Target.closeTarget', { targetId: worker.targetId });
    await until('the worker is gone', 2_000, async () =>
      (await this.workers(origin)).every(({ targetId }) => targetId !== worker.targetId),
    );
  }

  /** Makes the SharedWorker of an origin busy for good. */
  async hangWorker(origin) {
    const [worker] = await this.workers(origin);
    const { sessionId } = await this.devtools.send('Target.attachToTarget', { targetId: worker.targetId, flatten: false });
    const message = JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression: 'for (;;);' } });
    // There will be no answer to the evaluation; the message itself is answered.
    await this.devtools.send('Target.sendMessageToTarget', { sessionId, message });
  }

  close() {
    return this.browser.close();
  }
}

export class Profile {
  /** What pages complained about: uncaught errors, and errors on the console that are not about the network. */
  complaints = [];

  constructor(context) {
    this.context = context;
    context.on('weberror', (error) => this.complaints.push(String(error.error())));
    context.on('console', (message) => {
      const network = /Failed to load resource|WebSocket connection to/.test(message.text());
      if (message.type() === 'error' && !network) this.complaints.push(message.text());
    });
  }

  /** Opens a tab. */
  async open(address) {
    const page = await this.context.newPage();
    await page.goto(address);
    return page;
  }

  close() {
    return this.context.close();
  }
}

/** Figures of the market screen. */
export const stats = (page) => page.evaluate(() => globalThis.__tidegate?.stats() ?? {});
