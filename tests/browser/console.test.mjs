// The operators' console, on a gateway that has something to show: each page opened, read by axe,
// walked through with the keyboard, and kept as a picture in target/screenshots.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { endSoon } from '../sdk/events.mjs';
import { expiry, mint } from '../sdk/gateway.mjs';
import { Agent, Client } from '../sdk/stratix.mjs';
import { Chromium, stats } from './chromium.mjs';
import { Server } from './server.mjs';
import { until } from './wait.mjs';

const OPTIONS = { timeout: 60_000 };
const SECRET = 'a secret for connection tokens, of tests only';
const PICTURES = fileURLToPath(new URL('../../target/screenshots/', import.meta.url));
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const VIEW = { width: 1280, height: 800 };
const PAGES = {
  overview: ['', 'Overview', 'Connections'],
  connections: ['connections', 'Connections', 'websocket'],
  channels: ['channels', 'Channels', 'xy.md.tick.g00'],
  proxies: ['proxies', 'Proxies', '/-/orders'],
  relay: ['relay', 'Relay and outbox', 'Dead letters'],
  flags: ['flags', 'Feature flags', 'checkout.new-flow'],
  configuration: ['configuration', 'Configuration', 'listeners'],
};

describe('console', () => {
  let chromium;
  let server;
  let upstream;
  let agent;
  let viewer; // whom the gateway serves meanwhile
  let market;
  const open = [];
  before(async () => {
    mkdirSync(PICTURES, { recursive: true });
    upstream = createServer((request, response) => response.end('{"orders":[]}')).listen(0, '127.0.0.1');
    await once(upstream, 'listening');
    [chromium, agent] = await Promise.all([Chromium.start(), Agent.start()]);
    agent.isSilent = true;
    const port = upstream.address().port;
    server = await Server.start({
      demo: { enabled: true },
      market: { enabled: true },
      client: { token: { hmac_secret_key: SECRET } },
      feature_flags: { enabled: true },
      proxy: {
        routes: [
          { path: '/-/orders', name: 'orders', upstream: `http://127.0.0.1:${port}`, accessRule: 'true', allowPrivate: true, circuitBreaker: { enabled: true } },
          { path: '/-/invoices', name: 'invoices', upstream: 'http://127.0.0.1:9', accessRule: 'true', allowPrivate: true, circuitBreaker: { enabled: true } },
        ],
      },
      relay: {
        routes: [{ client_id_prefix: 'c-', agent: agent.url, protocol: 'stratix', acks: true, try_timeout: '100ms' }],
        retries: { attempts: 1, base: '50ms', max: '100ms' },
        breaker: { failures: 0 },
      },
    });
    await fill();
  });
  after(async () => {
    endSoon();
    for (const each of open) each.close();
    await viewer?.close();
    await chromium?.close();
    await server?.remove();
    await agent?.down();
    upstream?.close();
  });

  /** Flags, requests, messages and viewers, so that no page is empty. */
  async function fill() {
    await server.ask('/admin/feature-flags', 'PUT', {
      flags: { 'checkout.new-flow': { enabled: true, percentage: 25 }, 'market.depth': true, 'search.suggestions': false },
    });
    for (let count = 0; count < 20; count++) {
      await fetch(`${server.main}/-/orders`);
      await fetch(`${server.main}/-/invoices`);
    }
    const client = await Client.connect(server.gateway.address.main, mint(SECRET, { sub: 'c-1', exp: expiry(600) }), { clientId: 'c-1' });
    open.push(client);
    for (const messageId of ['letter-1', 'letter-2']) client.send({ messageId, data: 'nobody takes this' });
    viewer = await chromium.profile({ viewport: VIEW });
    market = await viewer.open(`${server.main}/market/`);
    for (let tab = 1; tab < 3; tab++) await viewer.open(`${server.main}/market/`);
    await until('the viewer is live', 10_000, async () => (await stats(market)).symbols === 200);
    await until('letters are dead', 10_000, async () => (await server.ask('/admin/relay/dead-letters')).deadLetters.length === 2);
  }

  const console_ = (page = '') => `${server.admin}/console/${page}`;

  async function logIn(page) {
    await page.getByLabel('Administrator token').fill(server.token);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('navigation', { name: 'Console' }).waitFor();
  }

  /** A browser where somebody has logged in. */
  async function operator(options = {}) {
    const profile = await chromium.profile({ viewport: VIEW, ...options });
    const page = await profile.open(console_());
    await logIn(page);
    return { profile, page };
  }

  async function show(page, [path, title, content]) {
    await page.getByRole('link', { name: title, exact: true }).click();
    await page.waitForURL(console_(path));
    await page.getByRole('heading', { level: 1, name: title, exact: true }).waitFor();
    await page.getByRole('main').getByText(content).first().waitFor();
  }

  /** What axe holds against a page. */
  async function audit(page, what) {
    // Not as an element of the page: its policy admits no such scripts.
    await page.evaluate(AXE);
    const { violations, passes } = await page.evaluate(() =>
      globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }),
    );
    assert.ok(passes.length > 5, `${what}: axe looked at nothing`);
    const found = violations.map(({ id, impact, nodes }) => `${what}: ${impact}: ${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join(' | ')}`);
    assert.deepEqual(found, []);
  }

  /** Nothing is wider than the window. */
  async function fits(page, what) {
    const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= window, `${what}: ${wide} of ${window} pixels`);
  }

  test('nothing is shown to whoever has no token', OPTIONS, async () => {
    const profile = await chromium.profile({ viewport: VIEW });
    const answers = [];
    profile.context.on('response', (response) => answers.push([new URL(response.url()).pathname, response.status()]));
    for (const [path] of Object.values(PAGES)) {
      const page = await profile.open(console_(path));
      await page.getByRole('heading', { level: 1, name: 'Log in' }).waitFor();
      await page.close();
    }
    const data = answers.filter(([path]) => !path.startsWith('/console/') && path !== '/favicon.ico');
    assert.deepEqual(data, [], 'the login page asks for no data');

    const page = await profile.open(console_('connections'));
    await page.getByLabel('Administrator token').fill('tga_wrong');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('alert').getByText('This token is not accepted.').waitFor();
    for (const path of ['/admin/overview', '/admin/connections', '/admin/channels', '/admin/proxies', '/admin/relay', '/admin/feature-flags', '/admin/config']) {
      assert.equal((await fetch(`${server.admin}${path}`)).status, 401, path);
    }
    await page.close();
    await profile.close();
    assert.deepEqual(profile.complaints, []);
  });

  for (const colorScheme of ['light', 'dark']) {
    test(`every page is readable, ${colorScheme}`, OPTIONS, async () => {
      const profile = await chromium.profile({ viewport: VIEW, colorScheme });
      const page = await profile.open(console_());
      await page.getByRole('heading', { level: 1, name: 'Log in' }).waitFor();
      await keep(page, 'login', colorScheme);
      await audit(page, 'login');
      await logIn(page);
      for (const [name, place] of Object.entries(PAGES)) {
        await show(page, place);
        if (name === 'overview') await until('the charts have a line', 15_000, async () => (await page.locator('main svg path, main svg polyline').count()) >= 6 && (await moments(page)) >= 6);
        await keep(page, name, colorScheme);
        await audit(page, name);
        await fits(page, name);
      }
      await items(page, colorScheme);
      await profile.close();
      assert.deepEqual(profile.complaints, []);
    });
  }

  /** Pages of one thing each. */
  async function items(page, colorScheme) {
    await show(page, PAGES.connections);
    const websocket = page.getByRole('row', { name: /guest-/ });
    await websocket.getByRole('link').click();
    await page.getByRole('link', { name: 'xy.md.tick.g00' }).waitFor();
    await keep(page, 'connection', colorScheme);
    await audit(page, 'connection');
    await page.getByRole('link', { name: 'xy.md.tick.g00' }).click();
    await page.getByRole('heading', { level: 1, name: 'xy.md.tick.g00' }).waitFor();
    await keep(page, 'channel', colorScheme);
    await audit(page, 'channel');
    await show(page, PAGES.proxies);
    await page.getByRole('link', { name: '/-/orders' }).click();
    await page.getByRole('main').getByText('127.0.0.1').first().waitFor();
    await keep(page, 'proxy', colorScheme);
    await audit(page, 'proxy');
    await show(page, PAGES.flags);
    await page.getByRole('button', { name: 'Remove market.depth' }).click();
    await page.getByRole('dialog').waitFor();
    await keep(page, 'question', colorScheme);
    await audit(page, 'question');
    await page.keyboard.press('Escape');
    await page.goto(console_('nowhere'));
    await page.getByRole('heading', { level: 1, name: 'Not found' }).waitFor();
    await keep(page, 'not-found', colorScheme);
  }

  test('it can be used with the keyboard alone', OPTIONS, async () => {
    const profile = await chromium.profile({ viewport: VIEW });
    const page = await profile.open(console_());
    const focused = () => page.evaluate(() => document.activeElement?.getAttribute('aria-label') || document.activeElement?.textContent?.trim() || document.activeElement?.id);
    await page.getByRole('heading', { level: 1, name: 'Log in' }).waitFor();
    // The field has the focus from the beginning.
    await page.keyboard.type(server.token);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
    for (const [, title] of Object.values(PAGES)) {
      await press(page, 'Tab', async () => (await focused()) === title);
      assert.ok(await outlined(page), `${title} shows that it has the focus`);
      await page.keyboard.press('Enter');
      await page.getByRole('heading', { level: 1, name: title, exact: true }).waitFor();
      assert.equal(await focused(), title, 'the heading of the new page has the focus');
      await page.goto(page.url());
      await page.getByRole('heading', { level: 1, name: title, exact: true }).waitFor();
    }
    // A flag is turned on, and removed after a question that Escape answers with no.
    await page.goto(console_('flags'));
    await page.getByRole('switch', { name: 'search.suggestions' }).waitFor();
    await press(page, 'Tab', async () => (await focused()) === 'search.suggestions');
    await page.keyboard.press('Space');
    await page.getByRole('switch', { name: 'search.suggestions', checked: true }).waitFor();
    assert.equal((await server.ask('/admin/feature-flags')).flags['search.suggestions'].enabled ?? true, true);
    await press(page, 'Tab', async () => (await focused()) === 'Remove search.suggestions');
    await page.keyboard.press('Enter');
    await page.getByRole('dialog').waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    assert.ok('search.suggestions' in (await server.ask('/admin/feature-flags')).flags);
    assert.equal(await focused(), 'Remove search.suggestions', 'the focus is back where it was');
    await profile.close();
    assert.deepEqual(profile.complaints, []);
  });

  test('an operator disconnects one client, which says so', OPTIONS, async () => {
    const { profile, page } = await operator();
    const someone = await chromium.profile({ viewport: VIEW });
    const victim = await someone.open(`${server.main}/market/`);
    await until('it is live', 10_000, async () => (await stats(victim)).state === 'connected');
    const known = (await server.connections()).filter(({ channels }) => channels === 20).sort((a, b) => b.connected_at - a.connected_at);
    await page.goto(console_(`connections/${known[0].client}`));
    await page.getByRole('button', { name: /^Disconnect/ }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).click();
    await page.waitForURL(console_('connections'));
    await until('somebody is disconnected', 5_000, async () => (await stats(victim)).state === 'disconnected', () => stats(victim));
    await victim.getByRole('button', { name: 'Connect again' }).waitFor();
    await keep(victim, 'market-disconnected', 'light');
    await victim.getByRole('button', { name: 'Connect again' }).click();
    await until('it is back', 5_000, async () => (await stats(victim)).state === 'connected');
    await someone.close();
    await profile.close();
    assert.deepEqual(profile.complaints, []);
  });

  test('logging out, and a token that is taken back, end the session', OPTIONS, async () => {
    const { profile, page } = await operator();
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByRole('heading', { level: 1, name: 'Log in' }).waitFor();
    await page.reload();
    await page.getByRole('heading', { level: 1, name: 'Log in' }).waitFor();
    assert.equal(await page.evaluate(() => Object.keys(sessionStorage).length), 0);
    await profile.close();
    assert.deepEqual(profile.complaints, []);
  });

  test('it is readable on a telephone', OPTIONS, async () => {
    const { profile, page } = await operator({ viewport: { width: 390, height: 844 }, hasTouch: true });
    for (const [name, place] of Object.entries(PAGES)) {
      await show(page, place);
      await fits(page, name);
      await keep(page, `${name}-telephone`, 'light');
    }
    await profile.close();
    assert.deepEqual(profile.complaints, []);
  });

  for (const colorScheme of ['light', 'dark']) {
    test(`the market screen is readable, ${colorScheme}`, OPTIONS, async () => {
      for (const [name, viewport] of [['market', VIEW], ['market-telephone', { width: 390, height: 844 }]]) {
        const profile = await chromium.profile({ viewport, colorScheme });
        const page = await profile.open(`${server.main}/market/`);
        await until('it has lived for a while', 15_000, async () => {
          const { symbols, latencyMs, snapshotAgeMs, updatesPerSecond } = await stats(page);
          return symbols === 200 && latencyMs !== undefined && snapshotAgeMs > 1_000 && updatesPerSecond > 500;
        });
        await keep(page, name, colorScheme);
        await fits(page, name);
        // The same document at any width: once is enough.
        if (viewport === VIEW) {
          await page.getByRole('button', { name: 'Pause' }).click();
          await audit(page, name);
        }
        await profile.close();
        assert.deepEqual(profile.complaints, []);
      }
    });
  }

  async function keep(page, name, colorScheme) {
    await page.screenshot({ path: join(PICTURES, `${name}-${colorScheme}.png`), animations: 'disabled' });
  }

  /** Points of the first chart. */
  function moments(page) {
    return page.evaluate(() => (document.querySelector('main .charts path[d], main .charts polyline')?.getAttribute('d') ?? '').split(/[LMC]/).length);
  }

  /** Presses a key until it is so; a page has fewer stops than that. */
  async function press(page, key, until_) {
    for (let count = 0; count < 80; count++) {
      await page.keyboard.press(key);
      if (await until_()) return;
    }
    throw new Error(`${key} does not lead there`);
  }

  /** Whether the focus can be seen. */
  function outlined(page) {
    return page.evaluate(() => {
      const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(document.activeElement);
      return (outlineStyle !== 'none' && parseFloat(outlineWidth) >= 1) || boxShadow !== 'none';
    });
  }
});
