import { fileURLToPath } from 'node:url';

import { defineConfig } from 'vitest/config';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Where each page is served; its name is the mode of the build. */
const PAGES: Record<string, { base: string; folder: string }> = {
  market: { base: '/market/', folder: 'market' },
  operator: { base: '/console/', folder: 'console' },
};

export default defineConfig(({ mode }) => {
  const page = PAGES[mode];
  return {
    root: here(page ? `./${mode}` : '.'),
    base: page?.base ?? '/',
    publicDir: false as const,
    resolve: {
      // The package beside this one, as it is published: it is built first.
      alias: [
        { find: /^@tidegate\/client$/, replacement: here('../sdk/typescript/dist/index.js') },
        { find: /^@tidegate\/client\/(.*)$/, replacement: `${here('../sdk/typescript/dist')}/$1.js` },
      ],
    },
    build: {
      outDir: here(`./dist/${page?.folder ?? 'none'}`),
      emptyOutDir: true,
      target: 'es2022',
      // Each asset is a file: the policy of the pages admits no `data:`.
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
      rolldownOptions: {
        output: {
          // The client package names its worker as a file beside it; it is served under one name for all builds.
          assetFileNames: ({ names }) => (names.includes('worker.js') ? 'worker.js' : 'assets/[name]-[hash][extname]'),
        },
      },
    },
    test: { include: ['tests/**/*.test.ts'], environment: 'node' },
  };
});
