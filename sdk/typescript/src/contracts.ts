// The contracts of the payloads, generated from the gateway's `.proto` files, and their decoders.

import { fromBinary } from '@bufbuild/protobuf';

import { FeatureFlagsSchema, type FeatureFlags } from './gen/xy/flags/v1/feature_flags_pb.js';
import {
  SnapshotBatchSchema,
  SnapshotSchema,
  type Snapshot,
  type SnapshotBatch,
} from './gen/xy/md/v1/snapshot_pb.js';
import { TickBatchSchema, TickSchema, type Tick, type TickBatch } from './gen/xy/md/v1/tick_pb.js';
import { SessionSchema, type Session } from './gen/xy/session/v1/session_pb.js';

export { FeatureFlagsSchema, SessionSchema, SnapshotBatchSchema, SnapshotSchema, TickBatchSchema, TickSchema };
export type { FeatureFlags, Session, Snapshot, SnapshotBatch, Tick, TickBatch };

// Fields that a newer gateway adds are skipped. All throw on bytes that are not the message.

export const decodeTick = (data: Uint8Array): Tick => fromBinary(TickSchema, data, LEAN);
export const decodeTickBatch = (data: Uint8Array): TickBatch => fromBinary(TickBatchSchema, data, LEAN);
export const decodeSnapshot = (data: Uint8Array): Snapshot => fromBinary(SnapshotSchema, data, LEAN);
export const decodeSnapshotBatch = (data: Uint8Array): SnapshotBatch =>
  fromBinary(SnapshotBatchSchema, data, LEAN);
export const decodeSession = (data: Uint8Array): Session => fromBinary(SessionSchema, data, LEAN);
export const decodeFeatureFlags = (data: Uint8Array): FeatureFlags =>
  fromBinary(FeatureFlagsSchema, data, LEAN);

/** Fields that are not known are not kept. */
const LEAN = { readUnknownFields: false };
