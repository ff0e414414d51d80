// Bundles the package into dist/: the page side as modules that share chunks, the worker as one script.

import { rm } from 'node:fs/promises';

import { build } from 'esbuild';

await rm('dist', { recursive: true, force: true });

const given = {
  bundle: true,
  sourcemap: true,
  target: ['es2022'],
  logLevel: 'warning',
  legalComments: 'none',
};

// The hub and the protocol client are a chunk of their own, loaded only where there is no SharedWorker.
await build({
  ...given,
  entryPoints: ['index', 'market', 'flags', 'contracts', 'react'].map((name) => `src/${name}.ts`),
  outdir: 'dist',
  format: 'esm',
  platform: 'browser',
  splitting: true,
  minifySyntax: true,
  minifyWhitespace: true,
  external: ['react'],
  chunkNames: 'chunks/[name]-[hash]',
});

// A classic script: every browser that has SharedWorker runs it, whatever the page was built with.
await build({
  ...given,
  entryPoints: ['src/worker.ts'],
  outfile: 'dist/worker.js',
  format: 'iife',
  platform: 'browser',
  minify: true,
});
