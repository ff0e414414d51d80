import { useEffect, useRef, useState } from 'react';

import { bytes, duration, short, whole } from '../../design/format';
import { ApiError, isAborted } from '../api';
import { Chart } from '../chart';
import { Facts, Failure, Heading, Loading, Pill } from '../pieces';
import { useApi } from '../query';
import { append, type Sample } from '../series';
import type { Overview } from '../shapes';

const EVERY_MS = 1_000;
const RETRY_MS = 2_000;

interface Live {
  latest?: Overview;
  samples: Sample[];
  error?: ApiError;
}

/** The overview once a second: as a stream, or asked for where there is none. */
function useOverview(): Live {
  const api = useApi();
  const [live, setLive] = useState<Live>({ samples: [] });
  const before = useRef<Overview>(undefined);
  useEffect(() => {
    const giveUp = new AbortController();
    const heard = (event: unknown) => {
      const overview = event as Overview;
      const last = before.current;
      before.current = overview;
      setLive(({ samples }) => ({ latest: overview, samples: append(samples, last, overview) }));
    };
    const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
    const run = async () => {
      let streams = true;
      while (!giveUp.signal.aborted) {
        try {
          if (streams) await api.follow('/admin/overview/stream', giveUp.signal, heard);
          else heard(await api.ask('/admin/overview', { signal: giveUp.signal }));
          await wait(EVERY_MS);
        } catch (error) {
          if (giveUp.signal.aborted || isAborted(error)) return;
          const known = error instanceof ApiError ? error : new ApiError(0, 'internal', String(error));
          if (known.status === 401) return;
          // All streams may be taken, and the plain request works all the same.
          if (streams && known.status !== 0) {
            streams = false;
            continue;
          }
          setLive((was) => ({ ...was, error: known }));
          await wait(RETRY_MS);
        }
      }
    };
    void run();
    return () => giveUp.abort();
  }, [api]);
  return live;
}

export function OverviewPage() {
  const { latest, samples, error } = useOverview();
  return (
    <>
      <Heading title="Overview">{latest && <State overview={latest} stale={error !== undefined} />}</Heading>
      {error && <Failure error={error} />}
      {latest ? <Figures overview={latest} samples={samples} /> : error ? null : <Loading />}
    </>
  );
}

const counted = (count: number, what: string) => `${whole(count)} ${what}${count === 1 ? '' : 's'}`;

function State({ overview, stale }: { overview: Overview; stale: boolean }) {
  const { stage, bus } = overview;
  return (
    <div className="pills">
      {stale ? <Pill tone="bad">not reached</Pill> : <Pill tone={stage === 'ready' ? 'good' : 'warn'}>{stage}</Pill>}
      <Pill tone={bus.state === 'connected' ? 'good' : 'bad'}>
        bus {bus.kind}, {bus.state}
      </Pill>
    </div>
  );
}

function Figures({ overview, samples }: { overview: Overview; samples: Sample[] }) {
  const times = samples.map(({ atMs }) => atMs);
  const of = (pick: (sample: Sample) => number) => samples.map(pick);
  const perSecond = (value: number) => `${short(value)}/s`;
  const bytesPerSecond = (value: number) => `${bytes(value)}/s`;
  const { relay, proxy, bus } = overview;
  const drops = Object.entries(overview.drops).filter(([, count]) => count > 0);
  return (
    <>
      <Facts
        facts={[
          ['Connections', whole(overview.connections)],
          ['Users', whole(overview.users)],
          ['Channels', whole(overview.channels)],
          ['Subscriptions', whole(overview.subscriptions)],
          ['Up for', duration(overview.uptime_seconds)],
          ['Version', overview.version],
          ['Node', <span className="mono" key="node" title={overview.node}>{overview.node.slice(0, 8)}</span>],
        ]}
      />
      <div className="charts">
        <Chart title="Connections" times={times} lines={[{ name: 'connections', values: of((s) => s.connections) }]} unit={whole} least={10} />
        <Chart
          title="Messages"
          times={times}
          lines={[
            { name: 'out', values: of((s) => s.outPerSecond) },
            { name: 'in', values: of((s) => s.inPerSecond), tone: 'quiet' },
          ]}
          unit={perSecond}
          least={10}
        />
        <Chart
          title="Traffic"
          times={times}
          lines={[
            { name: 'out', values: of((s) => s.bytesOutPerSecond) },
            { name: 'in', values: of((s) => s.bytesInPerSecond), tone: 'quiet' },
          ]}
          unit={bytesPerSecond}
          scale={1024}
          least={1024}
        />
        <Chart title="Dropped" times={times} lines={[{ name: 'dropped', values: of((s) => s.dropsPerSecond), tone: 'down' }]} unit={perSecond} least={1} />
        <Chart title="Processor" times={times} lines={[{ name: 'cores in use', values: of((s) => s.cpu) }]} unit={(value) => `${(value * 100).toFixed(0)} %`} least={1} limit={overview.cores || undefined} note={overview.cores ? `100 % is one of ${overview.cores} cores` : '100 % is one core'} />
        <Chart title="Memory" times={times} lines={[{ name: 'resident', values: of((s) => s.residentBytes) }]} unit={bytes} scale={1024 * 1024} least={64 * 1024 * 1024} limit={overview.limit_bytes || undefined} note={overview.limit_bytes ? `limit ${bytes(overview.limit_bytes)}` : undefined} />
        <section className="card">
          <h2>Beside it</h2>
          <dl className="rows">
            <div>
              <dt>published on the bus</dt>
              <dd>{whole(bus.published)}{bus.losses > 0 && `, connection lost ${bus.losses === 1 ? 'once' : `${whole(bus.losses)} times`}`}</dd>
            </div>
            <div>
              <dt>relay</dt>
              <dd>{relay ? `${whole(relay.pending)} waiting, ${whole(relay.dead_letters)} dead, ${counted(relay.agents_up, 'agent')} up` : 'off'}</dd>
            </div>
            <div>
              <dt>HTTP proxy</dt>
              <dd>{proxy ? `${counted(proxy.routes, 'route')}, ${counted(proxy.in_flight, 'request')} under way` : 'off'}</dd>
            </div>
          </dl>
        </section>
        <section className="card">
          <h2>Dropped since the start, by reason</h2>
          {drops.length === 0 ? (
            <p className="quiet">Nothing was dropped.</p>
          ) : (
            <dl className="rows">
              {drops.map(([reason, count]) => (
                <div key={reason}>
                  <dt>{reason.replaceAll('_', ' ')}</dt>
                  <dd>{whole(count)}</dd>
                </div>
              ))}
            </dl>
          )}
        </section>
      </div>
    </>
  );
}
