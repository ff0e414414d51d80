/** From counters, read once a second or so, to rates and to the lines of a chart. */

import type { Overview } from './shapes';

/** What the charts show of one moment. Rates are per second since the sample before. */
export interface Sample {
  atMs: number;
  connections: number;
  inPerSecond: number;
  outPerSecond: number;
  bytesInPerSecond: number;
  bytesOutPerSecond: number;
  dropsPerSecond: number;
  /** Cores' worth of time: 1 is one core all the time. */
  cpu: number;
  residentBytes: number;
}

/** Five minutes at a sample a second. */
export const SAMPLES_MAX = 300;
/** The least that a chart is wide. */
const SAMPLES_LEAST = 60;

/** How many samples a chart has room for: it grows with what is known, so that the first minutes are not a speck at the edge. */
export const span = (count: number) => Math.max(SAMPLES_LEAST, Math.min(count, SAMPLES_MAX));

export const totalDrops = (overview: Overview) => Object.values(overview.drops).reduce((sum, each) => sum + each, 0);

/** The samples with one more, the oldest going when there are too many. The first of all overviews is none: it has no rates. */
export function append(samples: Sample[], before: Overview | undefined, now: Overview): Sample[] {
  if (!before || now.time_ms <= before.time_ms) return samples;
  const seconds = (now.time_ms - before.time_ms) / 1_000;
  // After a restart counters begin anew, and what was before says nothing.
  const restarted = now.uptime_seconds < before.uptime_seconds || now.node !== before.node;
  const rate = (from: number, to: number) => (restarted ? 0 : Math.max(0, to - from) / seconds);
  const sample: Sample = {
    atMs: now.time_ms,
    connections: now.connections,
    inPerSecond: rate(before.messages_in, now.messages_in),
    outPerSecond: rate(before.messages_out, now.messages_out),
    bytesInPerSecond: rate(before.bytes_in, now.bytes_in),
    bytesOutPerSecond: rate(before.bytes_out, now.bytes_out),
    dropsPerSecond: rate(totalDrops(before), totalDrops(now)),
    cpu: rate(before.cpu_seconds, now.cpu_seconds),
    residentBytes: now.resident_bytes,
  };
  return [...samples, sample].slice(-SAMPLES_MAX);
}

/** A round number at or above the largest value: 1, 2 or 5 with zeros. */
export function ceiling(values: number[], least: number): number {
  const most = values.reduce((high, value) => Math.max(high, value), 0);
  if (most <= least) return least;
  const power = 10 ** Math.floor(Math.log10(most));
  return ([1, 2, 5, 10].find((step) => step * power >= most * 0.999) ?? 10) * power;
}

/** An SVG path through the values, the newest at the right edge. */
export function path(values: number[], top: number, width: number, height: number, most: number): string {
  const step = width / Math.max(1, most - 1);
  const from = width - (values.length - 1) * step;
  return values
    .map((value, index) => {
      const y = height - (Math.min(value, top) / top) * height;
      return `${index === 0 ? 'M' : 'L'}${(from + index * step).toFixed(1)} ${y.toFixed(1)}`;
    })
    .join('');
}
