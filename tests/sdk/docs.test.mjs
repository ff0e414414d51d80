// The examples of README and guides, run as they stand.
//
// ```yaml  is a configuration that `tidegate check` accepts; the first of a page is the one it runs on
// ```sh    is run by bash in one folder per page; a ```json after it is what it prints ("…" is anything)
// ```js    is run by Node and must end by itself
//
// Ports of `BEHIND` stand for servers that a page may take to be there.
//
// ```console shows a terminal and is not run.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, test } from 'node:test';

import { endSoon, within } from './events.mjs';
import { Gateway } from './gateway.mjs';
import { startModel, startService } from './upstream.mjs';

const root = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const OPTIONS = { timeout: 30_000 };

/** What the examples find at these ports; each page has its own. */
const BEHIND = {
  // Of the examples' own agent.
  8021: freePort,
  8031: () => startService('one'),
  8032: () => startService('two'),
  8041: startModel,
};

/** The fenced blocks of a page with their line numbers. */
function blocks(page) {
  const text = readFileSync(root(page), 'utf8');
  return [...text.matchAll(/^```(\w+)\n(.*?)^```/gms)].map(({ 1: kind, 2: code, index }) => ({
    kind,
    code,
    line: text.slice(0, index).split('\n').length,
  }));
}

/** Whether `actual` has everything that `expected` has. */
function fits(expected, actual) {
  if (expected === '…') return actual !== undefined;
  if (typeof expected !== 'object' || expected === null) return expected === actual;
  if (typeof actual !== 'object' || actual === null) return false;
  if (Array.isArray(expected) && expected.length !== actual.length) return false;
  return Object.keys(expected).every((key) => fits(expected[key], actual[key]));
}

/** A port that was free a moment ago, and nothing at it. */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return { port: String(port), close() {} };
}

/** Runs a program in the page's folder; resolves to what it prints, rejects unless it exits with 0. */
async function output(gateway, program, given) {
  const env = gateway.environment();
  const child = spawn(program, given, { cwd: gateway.folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const printed = { stdout: '', stderr: '' };
  for (const stream of Object.keys(printed)) {
    child[stream].setEncoding('utf8').on('data', (text) => {
      printed[stream] += text;
    });
  }
  const all = () => `${printed.stdout}\n${printed.stderr}`;
  const [code] = await within(20_000, `${program} ends`, once(child, 'close'), all).finally(() =>
    child.kill('SIGKILL'),
  );
  assert.equal(code, 0, `${program} exits with 0:\n${all()}`);
  return printed.stdout;
}

after(endSoon);

const guides = readdirSync(root('docs/guide')).sort();
for (const page of ['README.md', ...guides.map((name) => `docs/guide/${name}`)]) {
  const all = blocks(page);
  describe(page, () => {
    const configuration = all.find(({ kind }) => kind === 'yaml')?.code ?? null;
    const env = configuration === null ? { TIDEGATE_HTTP_API_KEY: 'tour-key' } : {};
    const gateway = new Gateway(configuration, env);
    const behind = {};
    const upstreams = (code) => code.replaceAll(/\b80[234]\d\b/g, (port) => behind[port]?.port ?? port);
    const here = (code) =>
      upstreams(code)
        .replaceAll('127.0.0.1:8000', gateway.address.main)
        .replaceAll('127.0.0.1:8001', gateway.address.admin);

    before(async () => {
      for (const [port, start] of Object.entries(BEHIND)) {
        if (all.some(({ code }) => code.includes(port))) behind[port] = await start();
      }
      gateway.config = configuration === null ? null : upstreams(configuration);
      symlinkSync(root('tests/sdk/node_modules'), join(gateway.folder, 'node_modules'));
      const certificate = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2';
      const names = '-subj /CN=localhost -keyout key.pem -out certificate.pem';
      await output(gateway, 'openssl', `${certificate} ${names}`.split(' '));
      if (all.some(({ kind, code }) => kind === 'yaml' && code.includes('keys/'))) {
        await output(gateway, 'tidegate', ['quantum', 'keys', 'keys']);
      }
      await gateway.start();
    });
    after(async () => {
      await gateway.remove();
      for (const server of Object.values(behind)) server.close();
    });

    all.forEach(({ kind, code, line }, index) => {
      if (kind === 'yaml') {
        test(`line ${line}: the configuration is accepted`, OPTIONS, async () => {
          writeFileSync(join(gateway.folder, 'checked.yaml'), code);
          await output(gateway, 'tidegate', ['check', '-c', 'checked.yaml']);
        });
      } else if (kind === 'sh') {
        const next = all[index + 1];
        test(`line ${line}: the command works`, OPTIONS, async () => {
          const printed = await output(gateway, 'bash', ['-euo', 'pipefail', '-c', here(code)]);
          if (next?.kind !== 'json') return;
          const [expected, actual] = [JSON.parse(here(next.code)), JSON.parse(printed)];
          assert.ok(fits(expected, actual), `${printed} instead of ${here(next.code)}`);
        });
      } else if (kind === 'js') {
        test(`line ${line}: the program runs`, OPTIONS, async () => {
          writeFileSync(join(gateway.folder, 'example.mjs'), here(code));
          await output(gateway, process.execPath, ['example.mjs']);
        });
      }
    });
  });
}
