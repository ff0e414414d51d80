// Reads every golden message with the generated types; prints the names of those that held.
//
//   node built/golden.js <folder of golden files>

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import {
  type DescMessage,
  type Message,
  equals,
  fromBinary,
  fromJson,
  toBinary,
  toJson,
} from '@bufbuild/protobuf';

import { FeatureFlagsSchema } from './generated/xy/flags/v1/feature_flags_pb.js';
import { SnapshotBatchSchema, SnapshotSchema } from './generated/xy/md/v1/snapshot_pb.js';
import { type TickBatch, TickBatchSchema, TickSchema } from './generated/xy/md/v1/tick_pb.js';
import { SessionSchema } from './generated/xy/session/v1/session_pb.js';

const CONTRACTS: DescMessage[] = [
  FeatureFlagsSchema,
  SessionSchema,
  SnapshotBatchSchema,
  SnapshotSchema,
  TickBatchSchema,
  TickSchema,
];

const folder = process.argv[2];
assert(folder !== undefined, 'the folder of the golden files is missing');

/** Prices by symbol: a use of the types that only compiles while they stay what they are. */
function prices(batch: TickBatch): Map<string, number> {
  return new Map(batch.ticks.map(({ symbol, price }) => [symbol, price]));
}

for (const file of readdirSync(folder).sort()) {
  if (!file.endsWith('.binpb')) continue;
  const name = file.slice(0, -'.binpb'.length);
  const newer = name.endsWith('.newer');
  const type = newer ? name.slice(0, -'.newer'.length) : name;
  const contract = CONTRACTS.find(({ typeName }) => typeName === type);
  assert(contract !== undefined, `${type} is not among the generated types`);

  const bytes: Buffer = readFileSync(join(folder, file));
  const message: Message = fromBinary(contract, bytes);
  const expected = JSON.parse(readFileSync(join(folder, `${type}.json`), 'utf8'));
  assert.deepEqual(toJson(contract, message), expected, name);
  const again = toBinary(contract, message);
  assert.equal(equals(contract, message, fromBinary(contract, again)), true, `${name} written again`);
  // Fields that a newer contract added are kept.
  if (newer) assert.deepEqual(Buffer.from(again), bytes, `${name} written again`);
  assert.equal(equals(contract, message, fromJson(contract, expected)), true, name);
  console.log(name);
}

const batch = fromBinary(TickBatchSchema, readFileSync(join(folder, 'xy.md.v1.TickBatch.binpb')));
assert.equal(prices(batch).get('S000'), 101.25);
assert.equal(batch.seq, 9_007_199_254_740_993n);
