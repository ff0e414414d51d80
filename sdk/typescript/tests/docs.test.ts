// The examples of README and guide compile against the package as it is published.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';

const PAGES = ['README.md', '../../docs/guide/browser-sdk.md'];
const FOLDER = 'dist-test/docs';

const OPTIONS = {
  target: 'es2022',
  module: 'esnext',
  lib: ['es2023', 'dom'],
  types: [],
  jsx: 'react-jsx',
  strict: true,
  noEmit: true,
};

for (const moduleResolution of ['bundler', 'nodenext']) {
  test(`examples compile with module resolution ${moduleResolution}`, () => {
    const folder = `${FOLDER}/${moduleResolution}`;
    mkdirSync(folder, { recursive: true });
    let count = 0;
    for (const page of PAGES) {
      for (const [, kind, code] of readFileSync(page, 'utf8').matchAll(/^```(tsx?)\n(.*?)^```/gms)) {
        writeFileSync(`${folder}/example-${(count += 1)}.${kind}`, code ?? '');
      }
    }
    assert.ok(count >= 6, `${count} examples`);
    const module = moduleResolution === 'nodenext' ? 'nodenext' : OPTIONS.module;
    writeFileSync(`${folder}/tsconfig.json`, JSON.stringify({ compilerOptions: { ...OPTIONS, module, moduleResolution } }));
    writeFileSync(`${folder}/package.json`, JSON.stringify({ type: 'module' }));
    // The package finds itself by its name, through its `exports`, as it does where it is installed.
    mkdirSync(`${folder}/node_modules/@tidegate/client`, { recursive: true });
    const { exports } = JSON.parse(readFileSync('package.json', 'utf8')) as { exports: object };
    const absolute = JSON.stringify({ name: '@tidegate/client', type: 'module', exports });
    writeFileSync(`${folder}/node_modules/@tidegate/client/package.json`, absolute);
    copyTypes('dist', `${folder}/node_modules/@tidegate/client/dist`);
    const { status, stdout } = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', folder], { encoding: 'utf8' });
    assert.equal(status, 0, stdout);
  });
}

function copyTypes(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    if (entry.isDirectory()) copyTypes(`${from}/${entry.name}`, `${to}/${entry.name}`);
    else if (entry.name.endsWith('.d.ts')) writeFileSync(`${to}/${entry.name}`, readFileSync(`${from}/${entry.name}`));
  }
}
