// Finishes the build: each text is compressed.
//
// What is embedded is served compressed as it lies there, so it is done once, here, and as well as it goes.

import { access, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { constants, gzipSync } from 'node:zlib';

const dist = fileURLToPath(new URL('../dist', import.meta.url));
const WORTH_IT = /\.(js|css|html|svg|json|txt)$/;

await access(join(dist, 'market/worker.js'));

const entries = await readdir(dist, { recursive: true, withFileTypes: true });
for (const entry of entries) {
  if (!entry.isFile() || !WORTH_IT.test(entry.name)) continue;
  const path = join(entry.parentPath, entry.name);
  const bytes = await readFile(path);
  const packed = gzipSync(bytes, { level: constants.Z_BEST_COMPRESSION });
  if (packed.length < bytes.length) await writeFile(`${path}.gz`, packed);
}
