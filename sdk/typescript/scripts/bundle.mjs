// Bundles the package into dist/: the page side as modules that share chunks, the worker as one script.

import { readFileSync } from 'node:fs';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { build } from 'esbuild';

await rm('dist', { recursive: true, force: true });

const given = {
  bundle: true,
  sourcemap: true,
  metafile: true,
  target: ['es2022'],
  logLevel: 'warning',
  legalComments: 'none',
};

// The hub and the protocol client are a chunk of their own, loaded only where there is no SharedWorker.
const page = await build({
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
const worker = await build({
  ...given,
  entryPoints: ['src/worker.ts'],
  outfile: 'dist/worker.js',
  format: 'iife',
  platform: 'browser',
  minify: true,
});

await writeFile('dist/LICENSES.txt', await licenses([page, worker]));

/** The licenses of what was bundled, and of what that has bundled in its turn. */
async function licenses(results) {
  const inputs = results.flatMap(({ metafile }) => Object.keys(metafile.inputs));
  const names = new Set(inputs.flatMap((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? []));
  // Those that are added meanwhile are visited as well.
  for (const name of names) {
    for (const further of Object.keys(described(name).dependencies ?? {})) {
      if (!further.startsWith('@types/')) names.add(further);
    }
  }
  const texts = [];
  for (const name of [...names].sort()) {
    const { version, license } = described(name);
    const file = (await readdir(folder(name))).find((found) => /^licen[cs]e/i.test(found));
    const text = file === undefined ? '' : readFileSync(join(folder(name), file), 'utf8');
    texts.push(`${name} ${version} (${license})\n\n${text.trim()}\n`);
  }
  return texts.join(`\n${'-'.repeat(80)}\n\n`);
}

function folder(name) {
  return join('node_modules', name);
}

function described(name) {
  return JSON.parse(readFileSync(join(folder(name), 'package.json'), 'utf8'));
}
