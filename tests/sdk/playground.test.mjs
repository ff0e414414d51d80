// The playground in headless Chromium, on a gateway started the way a newcomer starts it.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { launch } from './browser.mjs';
import { endSoon } from './events.mjs';
import { Gateway } from './gateway.mjs';

const OPTIONS = { timeout: 60_000 };

describe('the playground', () => {
  let browser;
  let gateway;
  before(async () => {
    browser = await launch();
    gateway = await Gateway.start(null);
  });
  after(async () => {
    endSoon();
    await browser?.close();
    await gateway?.remove();
  });

  /** A tab of its own user, subscribed; what its console complains about fails the test. */
  async function tab() {
    const context = await browser.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(10_000);
    page.complaints = [];
    page.on('pageerror', (error) => page.complaints.push(error.message));
    page.on('console', (message) => {
      if (message.type() === 'error' && !message.location().url.endsWith('/favicon.ico')) {
        page.complaints.push(message.text());
      }
    });
    await page.goto(`http://${gateway.address.main}/`);
    await page.locator('#people li', { hasText: '(you)' }).waitFor();
    return page;
  }

  const say = async (page, text) => {
    await page.getByLabel('Message', { exact: true }).fill(text);
    await page.getByRole('button', { name: 'Publish' }).click();
  };
  const heard = (page, text) => page.locator('#messages .said', { hasText: text }).waitFor();

  test('publishes, receives and shows who is there', OPTIONS, async () => {
    const [ann, bob] = [await tab(), await tab()];
    await ann.locator('#here-count', { hasText: '2' }).waitFor();
    await say(ann, 'the tide is high');
    await Promise.all([heard(ann, 'the tide is high'), heard(bob, 'the tide is high')]);
    await ann.locator('#latency', { hasText: 'ms' }).waitFor();
    await ann.getByRole('button', { name: 'Read history' }).click();
    await ann.locator('#outcome', { hasText: 'the latest: the tide is high' }).waitFor();
    await bob.context().close();
    await ann.locator('#here-count', { hasText: '1' }).waitFor();
    assert.deepEqual(ann.complaints, []);
    await ann.context().close();
  });

  test('recovers what was published while it was cut off', OPTIONS, async () => {
    const [ann, bob] = [await tab(), await tab()];
    await ann.getByRole('button', { name: 'Cut the connection' }).click();
    await bob.locator('#here-count', { hasText: '1' }).waitFor();
    for (const text of ['first missed', 'second missed']) {
      await say(bob, text);
      await heard(bob, text);
    }
    await ann.getByRole('button', { name: 'Reconnect' }).click();
    await ann.locator('#outcome', { hasText: 'recovered: true, 2 messages came back' }).waitFor();
    for (const text of ['first missed', 'second missed']) {
      assert.equal(await ann.locator('#messages .said', { hasText: text }).count(), 1);
    }
    assert.deepEqual(ann.complaints, []);
    await ann.context().close();
    await bob.context().close();
  });

  test('talks to the agent that the demo brings along', OPTIONS, async () => {
    const ann = await tab();
    const conversation = ann.getByRole('log', { name: 'Conversation with the agent' });
    const ask = async (text) => {
      await ann.getByLabel('Message to the agent').fill(text);
      await ann.getByRole('button', { name: 'Send' }).click();
      await conversation.locator('.said', { hasText: `You said: ${text}` }).waitFor();
    };
    await ask('how high is the tide?');
    await conversation.locator('.mine .when', { hasText: /^durable, [\d.]+ ms$/ }).waitFor();
    await ann.getByRole('button', { name: 'Cut the connection' }).click();
    assert.ok(await ann.getByRole('button', { name: 'Send' }).isDisabled());
    await ann.getByRole('button', { name: 'Reconnect' }).click();
    await ask('and now?');
    const answers = conversation.locator('li:not(.mine) .when', { hasText: /^[\d.]+ ms$/ });
    assert.equal(await answers.count(), 2);
    assert.deepEqual(ann.complaints, []);
    await ann.context().close();
  });

  test('says how to turn the demo on where it is off', OPTIONS, async () => {
    const page = await browser.newPage();
    await page.route('**/demo/token', (route) => route.fulfill({ status: 404 }));
    await page.goto(`http://${gateway.address.main}/`);
    await page.getByRole('heading', { name: 'The demo is off' }).waitFor();
    await page.close();
  });

  test('comes back after a restart and says that the stream was lost', OPTIONS, async () => {
    const ann = await tab();
    await say(ann, 'before');
    await heard(ann, 'before');
    await gateway.stop('SIGKILL');
    await gateway.start();
    await ann.locator('#outcome', { hasText: 'recovered: false' }).waitFor();
    await say(ann, 'after');
    await heard(ann, 'after');
    await ann.context().close();
  });
});
