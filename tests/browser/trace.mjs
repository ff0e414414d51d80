// Reads a trace of Chromium: what a page's main thread did, by task and by frame.

/**
 * @param {object[]} events of the trace
 * @param {string} address of the page
 */
export function mainThread(events, address) {
  const thread = threadOf(events, address);
  const own = events.filter(({ pid, tid }) => pid === thread.pid && tid === thread.tid).sort((a, b) => a.ts - b.ts);
  const tasks = own.filter(({ name, ph }) => name === 'RunTask' && ph === 'X').map(duration);
  const commits = own.filter(({ name }) => name === 'Commit').map(({ ts }) => ts);
  return { tasks, frames: perFrame(tasks, commits) };
}

/** What led to each frame: all tasks after the one that handed over the frame before, up to the one that hands it over. */
function perFrame(tasks, commits) {
  const frames = [];
  let frame = null; // what precedes the first one is not all there
  let next = 0;
  for (const { begin, end, wallMs, cpuMs } of tasks) {
    if (frame) frame = { wallMs: frame.wallMs + wallMs, cpuMs: frame.cpuMs + cpuMs };
    while (commits[next] < begin) next += 1;
    if (!(commits[next] <= end)) continue;
    if (frame) frames.push(frame);
    frame = { wallMs: 0, cpuMs: 0 };
  }
  return frames;
}

const duration = ({ ts, dur, tdur = dur }) => ({ begin: ts, end: ts + dur, wallMs: dur / 1_000, cpuMs: tdur / 1_000 });

/** The thread that draws the page. */
function threadOf(events, address) {
  const named = events.filter(({ name, args }) => name === 'thread_name' && args.name === 'CrRendererMain');
  const holds = (event) => JSON.stringify(event.args?.data ?? {}).includes(address);
  const pids = new Set(events.filter(holds).map((event) => event.args.data.frames?.find(({ url }) => url === address)?.processId ?? event.pid));
  const found = named.filter(({ pid }) => pids.has(pid));
  if (found.length === 0) throw new Error(`the trace has no thread that draws ${address}`);
  // The one that drew most, if the address occurs elsewhere too.
  const drawn = ({ pid, tid }) => events.filter((event) => event.name === 'Commit' && event.pid === pid && event.tid === tid).length;
  return found.sort((a, b) => drawn(b) - drawn(a))[0];
}
