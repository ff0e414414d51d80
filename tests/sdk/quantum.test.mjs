// From a page in Chromium through the gateway over Quantum to a tonic service, and back, while datagrams are lost.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Pages, launch } from './browser.mjs';
import { Desk } from './desk.mjs';
import { endSoon } from './events.mjs';
import { Gateway, expiry, mint } from './gateway.mjs';

const SECRET = 'a secret for callers of services, of tests only';
const LOSS = 0.05;
const CALLS = 200;
const AT_ONCE = 40;
const OPTIONS = { timeout: 60_000 };

describe('a gRPC service over Quantum', () => {
  let browser;
  let pages;
  let desk;
  let gateway;
  let page;
  before(async () => {
    browser = await launch();
    const script = new URL('node_modules/centrifuge/dist/centrifuge.js', import.meta.url);
    const html = '<!doctype html><meta charset="utf-8"><title>calls</title><script src="/centrifuge.js"></script>';
    pages = await Pages.serve({
      '/': { type: 'text/html', text: html },
      '/centrifuge.js': { type: 'text/javascript; charset=utf-8', file: script },
    });
    desk = await Desk.start(LOSS);
    gateway = await Gateway.start({
      access: { allowed_origins: [pages.origin] },
      client: { token: { hmac_secret_key: SECRET } },
      grpc: { services: [desk.service()] },
      rpc: { grpc: [{ method: 'desk.say', service: 'desk', call: 'e2e.v1.DeskService/Say' }] },
    });
    page = await browser.newPage();
    await page.goto(`${pages.origin}/`);
    await page.evaluate(
      async ([url, token]) => {
        globalThis.client = new globalThis.Centrifuge(url, { token });
        globalThis.client.connect();
        await globalThis.client.ready(10_000);
      },
      [`ws://${gateway.address.main}/connection/websocket`, mint(SECRET, { sub: 'ann', exp: expiry(600) })],
    );
  });
  after(async () => {
    endSoon();
    await browser?.close();
    pages?.close();
    await gateway?.remove();
    desk?.remove();
  });

  /** What `desk.say` answers to each text; all are asked at once. */
  const say = (texts) =>
    page.evaluate(
      (texts) => Promise.all(texts.map(async (text) => (await globalThis.client.rpc('desk.say', { text })).data)),
      texts,
    );

  test('answers a page whatever is lost, with one id in the logs of both sides', OPTIONS, async () => {
    const texts = Array.from({ length: CALLS }, (_, index) => `${index} ${'ü'.repeat(200)}`);
    const answers = [];
    while (answers.length < CALLS) answers.push(...(await say(texts.slice(answers.length, answers.length + AT_ONCE))));
    assert.deepEqual(answers.map(({ text }) => text), texts);
    assert.ok(answers.every(({ user }) => user === 'ann'));
    const ids = answers.map(({ guuid }) => guuid);
    assert.equal(new Set(ids).size, CALLS);

    const told = gateway.log.filter((line) => line.includes('"guuid"')).map((line) => JSON.parse(line));
    for (const id of ids) {
      const ours = told.filter(({ guuid }) => guuid === id);
      assert.deepEqual(ours.map(({ action }) => action), ['request_received', 'response_sent'], id);
      assert.ok(ours.every(({ component, level }) => component === 'api-gateway' && level === 'INFO'));
      const theirs = desk.log.filter(({ guuid }) => guuid === id);
      assert.deepEqual(theirs.map(({ action }) => action), ['request_received'], id);
      assert.equal(theirs[0].component, 'desk');
    }
  });

  test('tells a page its own mistake by the name of the field', OPTIONS, async () => {
    const refused = await page.evaluate(() =>
      globalThis.client.rpc('desk.say', { lines: [{ number: 'one' }] }).then(
        () => null,
        ({ code, message }) => ({ code, message }),
      ),
    );
    assert.equal(refused.code, 107);
    assert.match(refused.message, /lines\[0\]\.number/);
  });

  test('the link did lose datagrams', OPTIONS, async () => {
    const { lost, delivered } = await desk.stop();
    assert.ok(lost > 0.01 * delivered, `${lost} lost of ${lost + delivered}`);
  });
});
