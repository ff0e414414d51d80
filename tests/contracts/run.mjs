// Starts what the tests of the contracts need: buf, and the tools of each language.

import { execFile } from 'node:child_process';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));

export const proto = join(here, '../../proto');
export const baseline = join(proto, 'baseline.binpb');
export const golden = join(here, 'golden');
export const typescript = join(here, 'typescript');
export const go = join(here, 'go');
export const python = join(here, 'python');

const PATH = join(here, 'node_modules/.bin') + delimiter + process.env.PATH;

/** Runs a program to its end, at most five minutes: `{ code, said }`, both streams in `said`. */
export function run(folder, program, ...given) {
  return new Promise((resolve, reject) => {
    const options = { cwd: folder, env: { ...process.env, PATH }, timeout: 300_000, maxBuffer: 1 << 24 };
    execFile(program, given, options, (error, stdout, stderr) => {
      const said = stdout + stderr;
      if (!error) resolve({ code: 0, said });
      else if (typeof error.code === 'number') resolve({ code: error.code, said });
      else reject(error);
    });
  });
}

/** As `run`, but rejects with what the program said unless it exits with 0. */
export async function succeed(folder, program, ...given) {
  const { code, said } = await run(folder, program, ...given);
  if (code !== 0) throw new Error(`${program} ${given.join(' ')} ended with ${code}:\n${said}`);
  return said;
}
