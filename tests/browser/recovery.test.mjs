// What dies, and how soon two tabs of an application have live data without a gap again.

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';

import { Pages } from '../sdk/browser.mjs';
import { endSoon } from '../sdk/events.mjs';
import { expiry, mint } from '../sdk/gateway.mjs';
import { Chromium } from './chromium.mjs';
import { Nats } from './nats.mjs';
import { Server } from './server.mjs';
import { stalled, throughout, until } from './wait.mjs';

const OPTIONS = { timeout: 60_000 };
const RECOVERY_MS = 3_000;
/** Longer than the longest wait between two attempts to reconnect. */
const OUTAGE_MS = 4_000;
const SECRET = 'a secret for connection tokens, of tests only';

const CLIENT = new URL('../../sdk/typescript/dist/', import.meta.url);
const PROBE = new URL('probe/', import.meta.url);

describe('recovery', () => {
  let chromium;
  let pages;
  before(async () => {
    [chromium, pages] = await Promise.all([Chromium.start(), Pages.serve(probe())]);
  });
  after(async () => {
    endSoon();
    await chromium?.close();
    pages?.close();
  });

  const configuration = (more = {}) => ({
    access: { allowed_origins: [pages.origin] },
    demo: { enabled: true },
    market: { enabled: true },
    // Clients renew a token when it has expired; they have so long for it.
    client: { token: { hmac_secret_key: SECRET }, expired_close_delay: '2s' },
    ...more,
  });

  describe('with the bus in memory', () => {
    let server;
    let scene;
    before(async () => {
      server = await Server.start(configuration());
    });
    after(() => server?.remove());
    afterEach(() => scene?.close());

    test('a worker that crashes is replaced', OPTIONS, async () => {
      scene = await Scene.open(chromium, pages, server);
      const began = Date.now();
      await chromium.crashWorker(pages.origin);
      await scene.recovers('the crash of the worker', began, Date.now());
    });

    test('a gateway that is killed and starts again is found', OPTIONS, async () => {
      scene = await Scene.open(chromium, pages, server);
      await server.gateway.stop('SIGKILL');
      await scene.loses();
      const began = Date.now();
      await server.gateway.start();
      await scene.recovers('the restart of the gateway', began);
    });

    test('a gateway that is away for longer is found as soon', OPTIONS, async () => {
      scene = await Scene.open(chromium, pages, server);
      await server.gateway.stop('SIGKILL');
      await scene.loses();
      await throughout('nothing is connected', OUTAGE_MS, async () => (await scene.reports()).every(({ state }) => state !== 'connected'));
      const began = Date.now();
      await server.gateway.start();
      await scene.recovers('a longer outage of the gateway', began);
    });

    test('a gateway that drains lets its clients go to the next one', OPTIONS, async () => {
      scene = await Scene.open(chromium, pages, server);
      await server.gateway.stop('SIGTERM');
      await scene.loses();
      const began = Date.now();
      await server.gateway.start();
      await scene.recovers('a drain and a new start of the gateway', began);
    });

    test('a token that expires is renewed before, by one tab, and nothing is interrupted', OPTIONS, async () => {
      const opened = await server.opened();
      scene = await Scene.open(chromium, pages, server, { seconds: 4 });
      const [{ gaps }] = await scene.reports();
      const asked = scene.asked;
      await until('the token was renewed twice', 15_000, () => scene.asked >= asked + 2);
      for (const report of await scene.reports()) {
        assert.deepEqual(report.states.filter((state) => state !== 'connecting'), ['connected']);
        assert.equal(report.states.at(-1), 'connected');
        assert.equal(report.gaps, gaps);
        assert.ok(report.silenceMs < 1_000, `${report.silenceMs} ms without a batch`);
      }
      assert.equal((await server.opened()) - opened, 1);
      await scene.agrees();
    });

    test('a token that expires unrenewed ends the connection until there is one', OPTIONS, async () => {
      scene = await Scene.open(chromium, pages, server, { seconds: 3 });
      scene.withhold(true);
      await scene.loses(15_000);
      scene.withhold(false);
      await scene.recovers('there are tokens again', Date.now());
    });
  });

  describe('with the bus on NATS', () => {
    let nats;
    let server;
    let scene;
    before(async () => {
      nats = await Nats.start();
      server = await Server.start(configuration({ bus: { kind: 'nats', nats: { urls: [nats.url] } } }));
    });
    after(async () => {
      await server?.remove();
      await nats?.remove();
    });
    afterEach(() => scene?.close());

    test('a NATS server that is killed and starts again is found', OPTIONS, async () => {
      scene = await Scene.open(chromium, pages, server);
      await nats.kill();
      await scene.fallSilent(1_500);
      const began = Date.now();
      await nats.start();
      await scene.recovers('the restart of NATS', began);
    });

    test('a gateway that is killed and starts again goes on from the streams', OPTIONS, async () => {
      scene = await Scene.open(chromium, pages, server);
      await server.gateway.stop('SIGKILL');
      await scene.loses();
      const began = Date.now();
      await server.gateway.start();
      await scene.recovers('the restart of a gateway on NATS', began);
    });
  });
});

/** Two tabs with the probe, live. */
class Scene {
  /** How often a tab was asked for a token. */
  asked = 0;
  #withheld = false;

  static async open(chromium, pages, server, { seconds = 600 } = {}) {
    const scene = new Scene();
    scene.profile = await chromium.profile();
    await scene.profile.context.exposeFunction('mint', () => {
      scene.asked += 1;
      return scene.#withheld ? null : mint(SECRET, { sub: 'ann', exp: expiry(seconds) });
    });
    const url = `${server.main.replace('http', 'ws')}/connection/websocket`;
    scene.tabs = [];
    for (let tab = 0; tab < 2; tab++) scene.tabs.push(await scene.profile.open(`${pages.origin}/?${new URLSearchParams({ url })}`));
    await until(
      'both tabs are live',
      15_000,
      async () => (await scene.reports()).every(({ state, tabs, quotes, agreed }) => state === 'connected' && tabs === 2 && quotes === 200 && agreed > 0),
      () => scene.reports(),
    );
    return scene;
  }

  reports() {
    return Promise.all(this.tabs.map((tab) => tab.evaluate(() => globalThis.probe.report())));
  }

  /** From now on, or no longer, tabs have no token to give. */
  withhold(withheld) {
    this.#withheld = withheld;
  }

  loses(patience = 5_000) {
    return until('both tabs know that they are not connected', patience, async () => (await this.reports()).every(({ state }) => state !== 'connected'));
  }

  /** Waits until nothing has come for a while. */
  fallSilent(milliseconds) {
    return until('nothing comes any more', 15_000, async () => (await this.reports()).every(({ quietMs }) => quietMs >= milliseconds));
  }

  /**
   * Whether all groups in both tabs have what is younger than `since`, soon enough after `began`, and
   * have it right. What starts again has its start-up in this time.
   */
  async recovers(what, began, since = began) {
    await Promise.all(this.tabs.map((tab) => tab.evaluate((at) => globalThis.probe.mark(at), since)));
    await until(
      `both tabs are fresh after ${what}`,
      RECOVERY_MS * 3,
      async () => (await this.reports()).every(({ freshAt }) => freshAt !== null),
      () => this.reports(),
    );
    const reports = await this.reports();
    const took = Math.max(...reports.map(({ freshAt }) => freshAt - began));
    const waited = stalled(began);
    console.log(`    ${what}: live data again after ${took} ms${waited ? `, ${waited} of which the machine stood still` : ''}`);
    assert.ok(took <= RECOVERY_MS + waited, `${took} ms, ${waited} of which the machine stood still`);
    for (const { state, connections, tabs } of reports) {
      assert.deepEqual({ state, connections, tabs }, { state: 'connected', connections: 1, tabs: 2 });
    }
    await this.agrees();
  }

  /** Whether what the book comes to from here agrees with the snapshots of all groups, and always did. */
  async agrees() {
    await Promise.all(this.tabs.map((tab) => tab.evaluate(() => (globalThis.probe.agreed = 0))));
    await until(
      'each group agrees with a snapshot',
      12_000,
      async () => (await this.reports()).every(({ agreed }) => agreed >= 10),
      () => this.reports(),
    );
    for (const { differences } of await this.reports()) assert.deepEqual(differences, []);
  }

  async close() {
    const { complaints } = this.profile;
    await this.profile.close();
    assert.deepEqual(complaints, []);
  }
}

/** The probe, and the package as it is built. */
function probe() {
  const script = (file) => ({ type: 'text/javascript; charset=utf-8', file });
  const served = {};
  const modules = readdirSync(CLIENT, { recursive: true }).filter((name) => name.endsWith('.js'));
  for (const name of modules) served[`/client/${name}`] = script(new URL(name, CLIENT));
  const html = { type: 'text/html; charset=utf-8', file: new URL('index.html', PROBE) };
  // The query says where the gateway is.
  return new Proxy({ ...served, '/probe.mjs': script(new URL('probe.mjs', PROBE)) }, {
    get: (all, path) => (String(path).startsWith('/?') ? html : all[path]),
  });
}
