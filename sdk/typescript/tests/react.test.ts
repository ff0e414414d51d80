// The hooks, in a page.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { create, toBinary } from '@bufbuild/protobuf';
import { Window } from 'happy-dom';

import { SnapshotBatchSchema } from '../src/contracts.js';
import { FakeBrowser, settle, text } from './fakes.js';

// React looks for the page when it is loaded.
const page = new Window();
const { document, navigator } = page;
for (const [name, value] of Object.entries({ window: page, document, navigator, IS_REACT_ACT_ENVIRONMENT: true })) {
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}
globalThis.requestAnimationFrame = (frame) => setImmediate(() => frame(0)) as unknown as number;
const { act, createElement, StrictMode, useState } = await import('react');
const { createRoot } = await import('react-dom/client');
const { TidegateProvider, useConnection, useMarket, useSubscription, useTidegate } = await import('../src/react.js');

async function shown(browser: FakeBrowser, component: () => React.ReactNode): Promise<{ text(): string; end(): Promise<void> }> {
  const { client } = browser.tab('a');
  await settle();
  const place = page.document.createElement('div');
  const root = createRoot(place as unknown as Element);
  const tree = createElement(TidegateProvider, { client, children: createElement(component) });
  await act(async () => root.render(createElement(StrictMode, null, tree)));
  await act(settle);
  return { text: () => place.textContent ?? '', end: () => act(async () => root.unmount()) };
}

test('the state of the connection is rendered, and again when it changes', async () => {
  const browser = new FakeBrowser();
  const { text: rendered, end } = await shown(browser, () => {
    const { state, tabs } = useConnection();
    return `${state} ${tabs}`;
  });
  assert.equal(rendered(), 'connected 1');
  browser.tab('b');
  await act(settle);
  assert.equal(rendered(), 'connected 2');
  await end();
});

test('a subscription lives as long as its component, with the handlers of the last render', async () => {
  const browser = new FakeBrowser();
  let rename: (name: string) => void = () => {};
  const { text: rendered, end } = await shown(browser, () => {
    const [name, setName] = useState('one');
    const [heard, setHeard] = useState('');
    rename = setName;
    useSubscription('news', { onData: ([first]) => setHeard(`${name}: ${text(first!.data)}`) });
    return heard;
  });
  await act(async () => rename('two'));
  browser.gateway.publish('news', 'hello');
  await act(settle);
  assert.equal(rendered(), 'two: hello');
  const [connection] = browser.gateway.open;
  assert.deepEqual(connection!.subscribed, ['news']);
  await end();
  await browser.clock.advance(500);
  assert.equal(connection!.subscriptions.size, 0);
});

test('a market is followed as long as its component is there', async () => {
  const browser = new FakeBrowser();
  const state = { symbol: 'S000', last: 7, tsMs: 1n };
  const data = toBinary(SnapshotBatchSchema, create(SnapshotBatchSchema, { group: 'g00', seq: 1n, tsMs: 1n, snapshots: [state] }));
  browser.gateway.answer = async () => ({ op: 'rpc', data });
  const frames: string[] = [];
  const { end } = await shown(browser, () => {
    const { quotes } = useMarket({ groups: ['g00'], onFrame: (changed) => frames.push(...changed.keys()) });
    return `${quotes.size}`;
  });
  assert.ok(frames.includes('S000'));
  await end();
  await browser.clock.advance(500);
  assert.equal(browser.gateway.open[0]!.subscriptions.size, 0);
});

test('hooks outside of a provider say so', async () => {
  const root = createRoot(page.document.createElement('div') as unknown as Element);
  const orphan = (): string => useTidegate().mode;
  const rendered = async (): Promise<void> => void (await act(async () => root.render(createElement(orphan))));
  await assert.rejects(rendered, /TidegateProvider/);
});
