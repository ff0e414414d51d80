// Bundles the tests for Node and runs them.

import { spawn } from 'node:child_process';
import { readdir, rm } from 'node:fs/promises';

import { build } from 'esbuild';

await rm('dist-test', { recursive: true, force: true });
const found = await readdir('tests');
const tests = found.filter((name) => name.endsWith('.test.ts'));
await build({
  entryPoints: tests.map((name) => `tests/${name}`),
  outdir: 'dist-test',
  outExtension: { '.js': '.mjs' },
  bundle: true,
  packages: 'external',
  format: 'esm',
  platform: 'node',
  target: ['node18'],
  sourcemap: 'inline',
  logLevel: 'warning',
});
const files = tests.map((name) => `dist-test/${name.replace(/\.ts$/, '.mjs')}`);
const run = spawn(process.execPath, ['--enable-source-maps', '--test', ...files], { stdio: 'inherit' });
run.on('exit', (code) => process.exit(code ?? 1));
