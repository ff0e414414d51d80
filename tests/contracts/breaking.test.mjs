// What a change of the contracts may do, tried on copies of them against the baseline.

import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { baseline, proto, run } from './run.mjs';

/** Judges the contracts after `change`, which gets a function to edit a file with. */
async function judged(change) {
  const copy = mkdtempSync(join(tmpdir(), 'contracts-'));
  try {
    cpSync(proto, copy, { recursive: true });
    change((file, from, to) => {
      const path = join(copy, file);
      const before = readFileSync(path, 'utf8');
      const after = before.replace(from, to);
      assert.notEqual(after, before, `${file} has ${from}`);
      writeFileSync(path, after);
    }, copy);
    return await run(copy, 'buf', 'breaking', '--against', baseline);
  } finally {
    rmSync(copy, { recursive: true });
  }
}

const TICK = 'xy/md/v1/tick.proto';
const SNAPSHOT = 'xy/md/v1/snapshot.proto';

const refused = [
  ['a removed field', (edit) => edit(SNAPSHOT, /uint64 ask_size = 6;/, ''), /"6".*"ask_size".*deleted/],
  [
    'a removed field whose number is reserved',
    (edit) => edit(SNAPSHOT, /uint64 ask_size = 6;/, 'reserved 6; reserved "ask_size";'),
    /"6".*"ask_size".*deleted/,
  ],
  ['a renumbered field', (edit) => edit(TICK, /double price = 3;/, 'double price = 9;'), /"3".*"price".*deleted/],
  ['two fields with exchanged numbers', (edit) => {
    edit(SNAPSHOT, /double bid = 3;/, 'double bid = 4;');
    edit(SNAPSHOT, /double ask = 4;/, 'double ask = 3;');
  }, /from "bid" to "ask"/],
  ['a renamed field', (edit) => edit(TICK, /uint64 volume = 4;/, 'uint64 size = 4;'), /from "volume" to "size"/],
  ['another type', (edit) => edit(TICK, /int64 ts_ms = 1;/, 'string ts_ms = 1;'), /"ts_ms".*from "int64" to "string"/],
  ['one instead of many', (edit) => edit(TICK, /repeated Tick ticks/, 'Tick ticks'), /"ticks".*cardinality/],
  [
    'a removed message',
    (edit) => edit('xy/session/v1/session.proto', /message Session \{/, 'message Login {'),
    /"Session" was deleted/,
  ],
  ['another package', (edit) => edit(TICK, /package xy.md.v1;/, 'package xy.md.v2;'), /package changed from "xy.md.v1"/],
  ['a removed file', (_, copy) => rmSync(join(copy, SNAPSHOT)), /"xy\/md\/v1\/snapshot.proto" was deleted/],
];
for (const [what, change, reason] of refused) {
  test(`${what} is refused and named`, async () => {
    const { code, said } = await judged(change);
    assert.notEqual(code, 0, 'buf breaking has nothing against it');
    assert.match(said, reason);
  });
}

const taken = [
  ['no change', () => {}],
  ['an added field', (edit) => edit(TICK, /uint64 volume = 4;/, '$&\n  string venue = 5;')],
  ['an added message', (edit) => edit(TICK, /$/, '\nmessage TickRequest {\n  string group = 1;\n}\n')],
  ['other words in a comment', (edit) => edit(TICK, /Last price/, 'Latest price')],
  [
    'an added file',
    (_, copy) => writeFileSync(join(copy, 'xy/md/v1/trade.proto'), 'syntax = "proto3";\npackage xy.md.v1;\nmessage Trade {}\n'),
  ],
];
for (const [what, change] of taken) {
  test(`${what} is taken`, async () => {
    const { code, said } = await judged(change);
    assert.equal(code, 0, said);
  });
}
