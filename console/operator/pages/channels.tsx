import { useEffect, useState } from 'react';

import { whole } from '../../design/format';
import { Empty, Facts, Heading, Outcome, Pager } from '../pieces';
import { useQuery, useRested } from '../query';
import { go, href, Link } from '../route';
import type { Channels as Found, Presence } from '../shapes';

const PAGE = 100;
const EVERY_MS = 5_000;

export function Channels({ query }: { query: URLSearchParams }) {
  const [search, setSearch] = useState(query.get('search') ?? '');
  const rested = useRested(search);
  const cursor = query.get('cursor') ?? '';
  useEffect(() => {
    if (rested !== (query.get('search') ?? '')) go(href('channels', '', { search: rested }), { replace: true });
  }, [rested, query]);
  const asked = new URLSearchParams({ limit: String(PAGE) });
  if (query.get('search')) asked.set('search', query.get('search') ?? '');
  if (cursor) asked.set('cursor', cursor);
  const found = useQuery<Found>(`/admin/channels?${asked}`, EVERY_MS);
  return (
    <>
      <Heading title="Channels">
        <input type="search" aria-label="Search by name" placeholder="Name of the channel" value={search} onChange={(event) => setSearch(event.target.value)} />
      </Heading>
      <Outcome query={found}>
        {({ channels, next }) =>
          channels.length === 0 ? (
            <Empty>{rested || cursor ? 'No channel matches.' : 'No channel has a subscriber.'}</Empty>
          ) : (
            <>
              <div className="scroll" tabIndex={0} role="region" aria-label="Channels">
                <table>
                  <thead>
                    <tr>
                      <th scope="col">Channel</th>
                      <th scope="col" className="number">Subscribers</th>
                    </tr>
                  </thead>
                  <tbody>
                    {channels.map(({ name, subscribers }) => (
                      <tr key={name}>
                        <td className="mono wrap">
                          <Link to={href('channels', name)}>{name}</Link>
                        </td>
                        <td className="number">{whole(subscribers)}</td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
              <Pager shown={channels.length} first={cursor === ''} next={next !== undefined} toFirst={() => go(href('channels', '', { search: rested }))} toNext={() => go(href('channels', '', { search: rested, cursor: next ?? '' }))} />
            </>
          )
        }
      </Outcome>
    </>
  );
}

/** One channel. Who is there is read only here, when somebody asks for it. */
export function ChannelPage({ name }: { name: string }) {
  const found = useQuery<Presence>(`/admin/channels/${encodeURIComponent(name)}/presence`);
  // What is off by choice is no failure.
  const withoutPresence = found.error?.status === 422;
  return (
    <>
      <p className="trail">
        <Link to={href('channels')}>Channels</Link>
      </p>
      <Heading title={name}>
        <button type="button" disabled={found.loading} onClick={found.refresh}>
          Read again
        </button>
      </Heading>
      {withoutPresence && <Empty>This channel keeps no presence: nobody can tell who is there, only how many.</Empty>}
      <Outcome query={withoutPresence ? { ...found, error: undefined } : found} off="There is no such channel.">
        {({ presence }) => {
          const clients = Object.entries(presence);
          const users = new Set(clients.map(([, { user }]) => user));
          if (clients.length === 0) return <Empty>Nobody is in this channel.</Empty>;
          return (
            <>
              <Facts facts={[['Clients', whole(clients.length)], ['Users', whole(users.size)]]} />
              <div className="scroll" tabIndex={0} role="region" aria-label="Presence">
                <table>
                  <thead>
                    <tr>
                      <th scope="col">User</th>
                      <th scope="col">Client</th>
                    </tr>
                  </thead>
                  <tbody>
                    {clients.slice(0, ROWS_MAX).map(([client, { user }]) => (
                      <tr key={client}>
                        <td>{user || <span className="quiet">anonymous</span>}</td>
                        <td className="mono">
                          <Link to={href('connections', client)}>{client}</Link>
                        </td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
              {clients.length > ROWS_MAX && <p className="quiet">The first {whole(ROWS_MAX)} of them.</p>}
            </>
          );
        }}
      </Outcome>
    </>
  );
}

const ROWS_MAX = 1_000;
