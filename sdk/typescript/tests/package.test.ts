// What is published: entries, sizes, types.

import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';

import { endpoint } from '../src/upstream/centrifuge.js';

const KIB = 1024;
/** Compressed bytes, with all that is loaded along. */
const BUDGET = {
  'worker.js': 52 * KIB,
  'index.js': 8 * KIB,
  'market.js': 28 * KIB,
  'flags.js': 22 * KIB,
  'react.js': 28 * KIB,
};

/** A file of dist and all that it imports, but for what it imports on demand. */
function loaded(name: string, seen = new Set<string>()): Set<string> {
  if (seen.has(name)) return seen;
  seen.add(name);
  const source = readFileSync(`dist/${name}`, 'utf8');
  for (const [, path] of source.matchAll(/(?:from|import)\s*"\.\/([^"]+)"/g)) {
    loaded(name.startsWith('chunks/') ? `chunks/${path}` : (path ?? ''), seen);
  }
  return seen;
}

for (const [name, budget] of Object.entries(BUDGET)) {
  test(`${name} is within its size budget`, () => {
    const size = [...loaded(name)].reduce((sum, file) => sum + gzipSync(readFileSync(`dist/${file}`), { level: 9 }).length, 0);
    assert.ok(size <= budget, `${size} bytes, more than ${budget}`);
  });
}

test('the page does not load the protocol client unless it has to', () => {
  for (const file of loaded('index.js')) assert.ok(!readFileSync(`dist/${file}`, 'utf8').includes('maxServerPingDelay'), file);
});

test('every entry has a script, a source map and types', () => {
  const { exports } = JSON.parse(readFileSync('package.json', 'utf8')) as {
    exports: Record<string, string | { types: string; import: string }>;
  };
  for (const entry of Object.values(exports)) {
    const paths = typeof entry === 'string' ? [entry] : [entry.types, entry.import, `${entry.import}.map`];
    for (const path of paths) assert.ok(existsSync(path), path);
  }
});

test('the worker is one script without imports, for every kind of worker', () => {
  const source = readFileSync('dist/worker.js', 'utf8');
  assert.doesNotMatch(source, /^\s*(import|export)\s/m);
});

test('versions told to the gateway and of the package are the same', () => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  assert.match(readFileSync('src/client.ts', 'utf8'), new RegExp(`version: '${version}'`));
});

test('the encoding is added to the address', () => {
  assert.equal(endpoint('ws://a.test/connection/websocket'), 'ws://a.test/connection/websocket?cf_protocol=protobuf');
  assert.equal(endpoint('wss://a.test/c?x=1'), 'wss://a.test/c?x=1&cf_protocol=protobuf');
});

test('dependencies are pinned and the lock names no registry', () => {
  const { dependencies, devDependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as Record<string, Record<string, string>>;
  for (const version of Object.values({ ...dependencies, ...devDependencies })) assert.match(version, /^\d/);
  assert.ok(!readFileSync('package-lock.json', 'utf8').includes('"resolved"'));
  assert.ok(readdirSync('dist').includes('index.d.ts'));
});

test('the licenses of what is bundled are handed on', () => {
  const licenses = readFileSync('dist/LICENSES.txt', 'utf8');
  for (const name of ['centrifuge', 'protobufjs', '@bufbuild/protobuf']) assert.match(licenses, new RegExp(`^${name} \\d`, 'm'));
});
