import { duration, millis, whole } from '../../design/format';
import { Empty, Facts, Heading, Outcome, Pager, Pill } from '../pieces';
import { useQuery } from '../query';
import { go, href, Link } from '../route';
import type { ProxyExplanation, ProxyRecord, ProxyRecords, ProxyUpstream } from '../shapes';

const EVERY_MS = 3_000;
const OFF = 'The HTTP proxy is off (proxy.enabled).';

/** Routes on one page: each row asks how its upstreams fare. */
const PAGE = 40;

export function Proxies({ query }: { query: URLSearchParams }) {
  const page = Math.max(1, Number.parseInt(query.get('page') ?? '1', 10) || 1);
  const found = useQuery<ProxyRecords>(`/api/collections/_proxies/records?perPage=${PAGE}&page=${page}`, 10_000);
  return (
    <>
      <Heading title="Proxies" />
      <Outcome query={found} off={OFF}>
        {({ items, totalItems }) =>
          totalItems === 0 ? (
            <Empty>There are no routes. They come from the configuration file, or from the records API.</Empty>
          ) : (
            <>
              <div className="scroll" tabIndex={0} role="region" aria-label="Proxies">
                <table>
                  <thead>
                    <tr>
                      <th scope="col">Path</th>
                      <th scope="col">Upstreams</th>
                      <th scope="col">Breakers</th>
                      <th scope="col" className="number">In flight</th>
                      <th scope="col">State</th>
                    </tr>
                  </thead>
                  <tbody>
                    {items.map((record) => (
                      <Row key={record.id} record={record} />
                    ))}
                  </tbody>
                </table>
              </div>
              {totalItems > PAGE && <Pager shown={items.length} first={page === 1} next={page * PAGE < totalItems} toFirst={() => go(href('proxies'))} toNext={() => go(href('proxies', '', { page: String(page + 1) }))} />}
            </>
          )
        }
      </Outcome>
    </>
  );
}

function Row({ record }: { record: ProxyRecord }) {
  const { data } = useQuery<ProxyExplanation>(`/admin/proxies/${encodeURIComponent(record.id)}/explain`, 10_000);
  const active = record['active'] !== false;
  return (
    <tr>
      <td className="mono">
        <Link to={href('proxies', record.id)}>{title(record)}</Link>
      </td>
      <td className="mono wrap">{upstreams(record).join(', ') || '–'}</td>
      <td>{data ? <Breakers upstreams={data.upstreams} /> : <span className="quiet">…</span>}</td>
      <td className="number">{whole(data?.limiter?.inFlight)}</td>
      <td>{active ? <Pill tone="good">active</Pill> : <Pill>inactive</Pill>}</td>
    </tr>
  );
}

function Breakers({ upstreams }: { upstreams: ProxyUpstream[] }) {
  const states = new Map<string, number>();
  for (const { breaker } of upstreams) states.set(breaker, (states.get(breaker) ?? 0) + 1);
  return (
    <span className="pills">
      {[...states].map(([state, count]) => (
        <Breaker key={state} state={state} count={upstreams.length > 1 ? count : 0} />
      ))}
    </span>
  );
}

export function Breaker({ state, count = 0 }: { state: string; count?: number }) {
  const tone = state === 'closed' ? 'good' : state === 'open' ? 'bad' : state === 'off' ? undefined : 'warn';
  return (
    <Pill tone={tone}>
      {count > 0 && `${count} `}
      {state.replace('_', '-')}
    </Pill>
  );
}

export function ProxyPage({ id }: { id: string }) {
  const record = useQuery<ProxyRecord>(`/api/collections/_proxies/records/${encodeURIComponent(id)}`);
  const explained = useQuery<ProxyExplanation>(`/admin/proxies/${encodeURIComponent(id)}/explain`, EVERY_MS);
  return (
    <>
      <p className="trail">
        <Link to={href('proxies')}>Proxies</Link>
      </p>
      <Heading title={record.data ? title(record.data) : id} />
      <Outcome query={explained} off="There is no such route.">
        {({ decision, access, limiter, upstreams }) => (
          <>
            <p className="lead">{decision}</p>
            <Facts
              facts={[
                ['Access', access?.rule || (access?.guest ? 'everybody' : 'administrators')],
                ['Limiter', limiter ? `${limiter.mode}, ${limiter.limit === 0 ? 'no limit' : whole(limiter.limit)}` : '–'],
                ['In flight', whole(limiter?.inFlight)],
                ['Waiting', limiter?.queue === 0 ? 'no queue' : `${whole(limiter?.waiting)} of ${whole(limiter?.queue)}`],
              ]}
            />
            <div className="scroll" tabIndex={0} role="region" aria-label="Upstreams">
              <table>
                <thead>
                  <tr>
                    <th scope="col">Upstream</th>
                    <th scope="col">Breaker</th>
                    <th scope="col" className="number">Weight</th>
                    <th scope="col" className="number">Latency</th>
                    <th scope="col" className="number">In flight</th>
                    <th scope="col">Takes requests</th>
                  </tr>
                </thead>
                <tbody>
                  {upstreams.map((each) => (
                    <tr key={each.url}>
                      <td className="mono wrap">{each.url}</td>
                      <td>
                        <Breaker state={each.breaker} />
                        {each.retryAfterMs !== undefined && <span className="quiet"> tries again in {duration(each.retryAfterMs / 1_000)}</span>}
                      </td>
                      <td className="number">{whole(each.weight)}</td>
                      <td className="number">{millis(each.latencyMs)}</td>
                      <td className="number">{whole(each.inFlight)}</td>
                      <td>{each.eligible ? 'yes' : each.ejected ? 'no, left out for being slow or failing' : 'no'}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          </>
        )}
      </Outcome>
      {record.data && (
        <section className="card">
          <h2>Record</h2>
          <pre className="wrap">{JSON.stringify(record.data, null, 2)}</pre>
        </section>
      )}
    </>
  );
}

function title(record: ProxyRecord): string {
  const path = record['path'] ?? record['prefix'] ?? record['name'];
  return typeof path === 'string' && path !== '' ? path : record.id;
}

function upstreams(record: ProxyRecord): string[] {
  const many = record['upstreams'];
  if (Array.isArray(many) && many.length > 0) return many.map((each) => String((each as { url?: string }).url ?? each));
  return typeof record['upstream'] === 'string' && record['upstream'] !== '' ? [record['upstream']] : [];
}
