// The contracts in other languages: generated, compiled, and given the messages that Rust wrote.

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';

import { go, golden, proto, python, succeed, typescript } from './run.mjs';

const names = readdirSync(golden)
  .filter((name) => name.endsWith('.binpb'))
  .map((name) => name.slice(0, -'.binpb'.length))
  .sort();
const lines = (said) => said.split('\n').filter((line) => line !== '').sort();

test('every message of the contracts has a golden file', async () => {
  const image = JSON.parse(await succeed(proto, 'buf', 'build', '-o', '-#format=json'));
  const messages = image.file.flatMap((file) => (file.messageType ?? []).map(({ name }) => `${file.package}.${name}`));
  assert.deepEqual(
    names.filter((name) => !name.endsWith('.newer')),
    messages.sort(),
  );
});

test('TypeScript compiles and reads what Rust writes', async () => {
  await succeed(typescript, 'buf', 'generate', proto);
  await succeed(typescript, 'tsc', '--project', '.');
  assert.deepEqual(lines(await succeed(typescript, process.execPath, 'built/golden.js', golden)), names);
});

test('Go compiles and reads what Rust writes', async () => {
  // By itself first: what it downloads or builds the first time is told on the output.
  await succeed(go, 'go', 'mod', 'download');
  await succeed(go, 'buf', 'generate', proto);
  await succeed(go, 'go', 'vet', '.');
  assert.deepEqual(lines(await succeed(go, 'go', 'run', '.', golden)), names);
});

test('Python imports and reads what Rust writes', async () => {
  await succeed(python, 'buf', 'generate', proto);
  assert.deepEqual(lines(await succeed(python, 'python3', 'golden.py', golden)), names);
});
