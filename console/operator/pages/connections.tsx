import { useEffect, useState } from 'react';

import { bytes, duration, moment, whole } from '../../design/format';
import { Deed, Empty, Facts, Heading, Outcome, Pager } from '../pieces';
import { useApi, useQuery, useRested } from '../query';
import { go, href, Link } from '../route';
import type { ConnectionDetail, Connections as Found } from '../shapes';

const PAGE = 50;
const EVERY_MS = 5_000;

export function Connections({ query }: { query: URLSearchParams }) {
  const [search, setSearch] = useState(query.get('search') ?? '');
  const rested = useRested(search);
  const cursor = query.get('cursor') ?? '';
  useEffect(() => {
    if (rested !== (query.get('search') ?? '')) go(href('connections', '', { search: rested }), { replace: true });
  }, [rested, query]);
  const asked = new URLSearchParams({ limit: String(PAGE) });
  if (query.get('search')) asked.set('search', query.get('search') ?? '');
  if (cursor) asked.set('cursor', cursor);
  const found = useQuery<Found>(`/admin/connections?${asked}`, EVERY_MS);
  return (
    <>
      <Heading title="Connections">
        <input type="search" aria-label="Search by user, client or address" placeholder="User, client or address" value={search} onChange={(event) => setSearch(event.target.value)} />
      </Heading>
      <Outcome query={found}>
        {({ connections, next }) =>
          connections.length === 0 ? (
            <Empty>{rested || cursor ? 'No connection matches.' : 'Nobody is connected.'}</Empty>
          ) : (
            <>
              <div className="scroll" tabIndex={0} role="region" aria-label="Connections">
                <table>
                  <thead>
                    <tr>
                      <th scope="col">User</th>
                      <th scope="col">Client</th>
                      <th scope="col">Address</th>
                      <th scope="col">Transport</th>
                      <th scope="col">Connected for</th>
                      <th scope="col" className="number">Channels</th>
                      <th scope="col" className="number">Queue</th>
                      <th scope="col"><span className="heard">Actions</span></th>
                    </tr>
                  </thead>
                  <tbody>
                    {connections.map((each) => (
                      <tr key={each.client}>
                        <td>{each.user || <span className="quiet">anonymous</span>}</td>
                        <td className="mono">
                          <Link to={href('connections', each.client)}>{each.client}</Link>
                        </td>
                        <td className="mono">{each.address}</td>
                        <td>{transport(each)}</td>
                        <td title={moment(each.connected_at * 1_000)}>{duration(Date.now() / 1_000 - each.connected_at)}</td>
                        <td className="number">{whole(each.channels)}</td>
                        <td className="number">{bytes(each.queue_bytes)}</td>
                        <td className="number">
                          <Disconnect client={each.client} user={each.user} done={found.refresh} />
                        </td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
              <Pager shown={connections.length} first={cursor === ''} next={next !== undefined} toFirst={() => go(href('connections', '', { search: rested }))} toNext={() => go(href('connections', '', { search: rested, cursor: next ?? '' }))} />
            </>
          )
        }
      </Outcome>
    </>
  );
}

export function ConnectionPage({ client }: { client: string }) {
  const found = useQuery<ConnectionDetail>(`/admin/connections/${encodeURIComponent(client)}`, EVERY_MS);
  return (
    <>
      <p className="trail">
        <Link to={href('connections')}>Connections</Link>
      </p>
      <Heading title={client}>
        {found.data && !found.error && <Disconnect client={client} user={found.data.user} done={() => go(href('connections'))} />}
      </Heading>
      <Outcome query={found} off="This connection is closed.">
        {(detail) => (
          <>
            <Facts
              facts={[
                ['User', detail.user || 'anonymous'],
                ['Address', <span className="mono" key="address">{detail.address}</span>],
                ['Transport', transport(detail)],
                ['Connected', moment(detail.connected_at * 1_000)],
                ['Token expires', detail.expires_at ? moment(detail.expires_at * 1_000) : 'never'],
                ['Waiting to be sent', bytes(detail.queue_bytes)],
              ]}
            />
            <section className="card">
              <h2>Channels ({whole(detail.channel_names.length)})</h2>
              {detail.channel_names.length === 0 ? (
                <p className="quiet">It is subscribed to nothing.</p>
              ) : (
                <ul className="names">
                  {detail.channel_names.map((name) => (
                    <li key={name}>
                      <Link to={href('channels', name)}>{name}</Link>
                    </li>
                  ))}
                </ul>
              )}
            </section>
          </>
        )}
      </Outcome>
    </>
  );
}

function Disconnect({ client, user, done }: { client: string; user: string; done: () => void }) {
  const api = useApi();
  return (
    <Deed
      label="Disconnect"
      title={`Disconnect ${user || 'anonymous'} ${client}`}
      danger
      question={
        <>
          <h2>Disconnect {user || 'this anonymous client'}?</h2>
          <p>
            Connection <code className="wrap">{client}</code> is closed for good: the client does not come back by itself. Its token stays good.
          </p>
        </>
      }
      sure="Disconnect"
      act={async () => {
        await api.ask(`/admin/connections/${encodeURIComponent(client)}`, { method: 'DELETE' });
        done();
      }}
    />
  );
}

function transport({ transport, encoding, dialect }: { transport: string; encoding: string; dialect?: string }) {
  return [transport, encoding, dialect === 'centrifuge' ? '' : dialect].filter((part) => part).join(' · ');
}
