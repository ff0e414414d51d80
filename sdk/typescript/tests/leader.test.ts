// A browser without SharedWorker: one of the tabs holds the connection.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { FakeBrowser, settle, text, type Tab } from './fakes.js';

async function tabs(count: number): Promise<{ browser: FakeBrowser; tabs: Tab[] }> {
  const browser = new FakeBrowser();
  const opened = Array.from({ length: count }, (_, index) => browser.tab(`tab-${index}`, {}, ['leader']));
  await browser.clock.advance(300);
  return { browser, tabs: opened };
}

test('one tab leads and the others go through it', async () => {
  const { browser, tabs: opened } = await tabs(4);
  assert.equal(browser.gateway.open.length, 1);
  const heard: string[] = [];
  for (const { client } of opened) {
    assert.deepEqual([client.state.get().state, client.state.get().tabs, client.mode], ['connected', 4, 'leader']);
    client.subscribe('news', { onData: (publications) => heard.push(...publications.map(({ data }) => text(data))) });
  }
  await settle();
  browser.gateway.publish('news', 'one');
  await settle();
  assert.deepEqual(heard, ['one', 'one', 'one', 'one']);
  assert.equal(text(await opened[3]!.client.rpc('echo', 'hello')), 'hello');
});

test('when the leader dies another tab leads, and subscriptions are restored', async () => {
  const { browser, tabs: opened } = await tabs(3);
  const heard = opened.map(({ client }) => {
    const data: string[] = [];
    client.subscribe('news', { onData: (publications) => data.push(...publications.map((item) => text(item.data))) });
    return data;
  });
  await settle();
  opened[0]!.die();
  await browser.clock.advance(1000);
  assert.equal(browser.gateway.open.length, 1);
  browser.gateway.publish('news', 'after');
  await settle();
  assert.deepEqual(heard, [[], ['after'], ['after']]);
  assert.equal(opened[2]!.client.state.get().tabs, 2);
});

test('a leader that closes hands over, and the last one ends the connection', async () => {
  const { browser, tabs: opened } = await tabs(3);
  for (let left = 2; left > 0; left -= 1) {
    opened.shift()!.client.close();
    await browser.clock.advance(1000);
    assert.equal(browser.gateway.open.length, 1);
    assert.equal(opened[0]!.client.state.get().tabs, left);
  }
  opened[0]!.client.close();
  await settle();
  assert.equal(browser.gateway.open.length, 0);
});
