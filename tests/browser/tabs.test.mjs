// The market screen on embedded defaults, and how many connections its tabs make.

import assert from 'node:assert/strict';
import { after, before, beforeEach, afterEach, describe, test } from 'node:test';

import { endSoon } from '../sdk/events.mjs';
import { Chromium, stats } from './chromium.mjs';
import { Server } from './server.mjs';
import { stalled, throughout, until } from './wait.mjs';

const OPTIONS = { timeout: 60_000 };
const TABS = 5;
const RECOVERY_MS = 3_000;
/** Silence after which a worker that lives is given up (`docs/guide/browser-sdk.md`). */
const HUNG_MS = 4_000;

describe('market screen', () => {
  let chromium;
  let server;
  let profile;
  before(async () => {
    [chromium, server] = await Promise.all([Chromium.start(), Server.start(null)]);
  });
  after(async () => {
    endSoon();
    await chromium?.close();
    await server?.remove();
  });
  afterEach(async () => {
    const { complaints } = profile;
    await profile.close();
    assert.deepEqual(complaints, []);
    // A worker that hangs ends with its profile, and its connection with the process or a ping.
    await until('all connections are gone', 5_000, async () => (await server.sockets()) === 0);
  });

  const market = () => `${server.main}/market/`;
  const live = (page, tabs) =>
    until(
      'the tab is live',
      10_000,
      async () => {
        const now = await stats(page);
        return now.state === 'connected' && now.symbols === 200 && now.updatesPerSecond > 0 && !now.stale && (!tabs || now.tabs === tabs);
      },
      () => stats(page),
    );
  const open = async (count) => {
    const pages = [];
    for (let index = 0; index < count; index++) pages.push(await profile.open(market()));
    for (const page of pages) await live(page);
    return pages;
  };

  describe('with a SharedWorker', () => {
    beforeEach(async () => {
      profile = await chromium.profile();
    });

    test('200 symbols move within three seconds of opening', OPTIONS, async () => {
      const began = Date.now();
      const page = await profile.open(market());
      const lasts = () => page.locator('tbody td.last').allTextContents();
      const rows = await until('200 rows', 3_000, async () => {
        const texts = await lasts();
        return texts.length === 200 && texts;
      });
      await until('visible rows move', 3_000, async () => {
        const now = await lasts();
        return now.filter((text, index) => text !== rows[index] && text !== '').length >= 20;
      });
      const took = Date.now() - began;
      console.log(`    rows move ${took} ms after the navigation`);
      assert.ok(took <= 3_000 + stalled(began), `${took} ms`);
      // Every symbol moves, also those that are out of sight.
      const volumes = () => page.evaluate(() => globalThis.__tidegate.stats().updatesPerSecond);
      assert.ok((await volumes()) > 200);
    });

    test('five tabs share one WebSocket until the last is closed', OPTIONS, async () => {
      const opened = await server.opened();
      const pages = await open(TABS);
      assert.equal(await server.sockets(), 1);
      for (const page of pages) {
        await live(page, TABS);
        const { connections, mode } = await stats(page);
        assert.deepEqual({ connections, mode }, { connections: 1, mode: 'shared-worker' });
      }
      await pages[0].getByText('5 tabs = 1 connection').waitFor();
      const [before] = await server.connections();
      // The first goes first, then the last one opened, then whoever is left.
      for (const page of [pages[0], pages[4], pages[2], pages[1]]) {
        await page.close();
        const left = pages.find((each) => !each.isClosed());
        await until('the others count one tab less', 3_000, async () => (await stats(left)).tabs === pages.filter((each) => !each.isClosed()).length);
        const [now, ...more] = await server.connections();
        assert.equal(now.client, before.client);
        assert.equal(more.length, 0);
        await live(left);
      }
      const { gaps } = await stats(pages[3]);
      assert.equal(gaps, 0);
      await pages[3].close();
      await until('the connection goes with the last tab', 3_000, async () => (await server.sockets()) === 0);
      assert.equal((await server.opened()) - opened, 1, 'one WebSocket in all that time');
    });

    test('a reload does not cost the other tabs anything', OPTIONS, async () => {
      const [one, other] = await open(2);
      const [before] = await server.connections();
      await one.reload();
      await live(one, 2);
      const [now] = await server.connections();
      assert.equal(now.client, before.client);
      assert.equal((await stats(other)).gaps, 0);
    });

    test('tabs whose worker crashes have one connection again within three seconds', OPTIONS, async () => {
      const pages = await open(TABS);
      const [before] = await server.connections();
      const crashed = Date.now();
      await chromium.crashWorker(server.main);
      await recovered(pages, before.client, crashed, 'the crash of the worker');
    });

    test('tabs whose worker hangs have another one within three seconds of giving it up', OPTIONS, async () => {
      const pages = await open(2);
      const [before] = await server.connections();
      await chromium.hangWorker(server.main);
      const hung = Date.now();
      await recovered(pages, before.client, hung, 'the worker hung', HUNG_MS);
    });
  });

  describe('without a SharedWorker', () => {
    beforeEach(async () => {
      profile = await chromium.profile({ before: () => delete globalThis.SharedWorker });
    });

    test('five tabs share the WebSocket of the one that leads, and another takes over', OPTIONS, async () => {
      const pages = await open(TABS);
      assert.equal(await server.sockets(), 1);
      for (const page of pages) {
        await live(page, TABS);
        assert.equal((await stats(page)).mode, 'leader');
      }
      await pages[1].getByText('leading tab').waitFor();
      const [before] = await server.connections();
      // The first one opened leads.
      await pages[0].close();
      const closed = Date.now();
      const left = pages.slice(1);
      await recovered(left, before.client, closed, 'the leading tab was closed');
      await throughout('one connection', 500, async () => (await server.sockets()) === 1);
    });

    test('a tab that does not lead is closed and nothing else happens', OPTIONS, async () => {
      const [leader, follower] = await open(2);
      const [before] = await server.connections();
      await follower.close();
      await until('the leader is alone', 3_000, async () => (await stats(leader)).tabs === 1);
      const [now] = await server.connections();
      assert.equal(now.client, before.client);
      assert.equal((await stats(leader)).gaps, 0);
    });
  });

  describe('without a SharedWorker and a BroadcastChannel', () => {
    beforeEach(async () => {
      profile = await chromium.profile({
        before: () => {
          delete globalThis.SharedWorker;
          delete globalThis.BroadcastChannel;
        },
      });
    });

    test('each tab has a connection of its own and says so', OPTIONS, async () => {
      const pages = await open(3);
      assert.equal(await server.sockets(), 3);
      for (const page of pages) {
        const { mode, tabs, connections } = await stats(page);
        assert.deepEqual({ mode, tabs, connections }, { mode: 'own', tabs: 1, connections: 1 });
        await page.getByText('own connection').waitFor();
      }
      await pages[0].close();
      await until('its connection goes with a tab', 3_000, async () => (await server.sockets()) === 2);
    });
  });

  /**
   * Whether the tabs share one new connection, live and whole, soon enough after `since`.
   * What hangs is noticed after a while, and its connection stays until the gateway misses its pings.
   */
  async function recovered(pages, client, since, what, hungMs = 0) {
    const seen = () => Promise.all(pages.map(stats));
    await until(
      `all tabs are live again after ${what}`,
      RECOVERY_MS * 3,
      async () => {
        const all = await seen();
        const [connection] = (await server.connections()).filter((each) => each.client !== client);
        // A snapshot that is younger than what happened, or no gap since.
        const whole = (each) => each.state === 'connected' && !each.stale && each.snapshotAgeMs < Date.now() - since;
        return connection && all.every((each) => whole(each) && each.tabs === pages.length);
      },
      seen,
    );
    const took = Date.now() - since;
    const waited = stalled(since);
    console.log(`    ${what}: whole again after ${took} ms${waited ? `, ${waited} of which the machine stood still` : ''}`);
    assert.ok(took <= RECOVERY_MS + hungMs + waited, `${took} ms, ${waited} of which the machine stood still`);
    const left = (await server.connections()).filter((each) => each.client !== client);
    assert.equal(left.length, 1, 'one connection is new');
    if (hungMs === 0) await until('the old connection is gone', 3_000, async () => (await server.sockets()) === 1);
  }
});
