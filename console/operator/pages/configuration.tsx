import { useState } from 'react';

import { Empty, Heading, Outcome } from '../pieces';
import { useQuery } from '../query';
import { go, href } from '../route';
import { matching, sections, settings } from '../tree';

export function Configuration({ query }: { query: URLSearchParams }) {
  const [search, setSearch] = useState(query.get('search') ?? '');
  const found = useQuery<unknown>('/admin/config');
  const narrow = (text: string) => {
    setSearch(text);
    go(href('configuration', '', { search: text }), { replace: true });
  };
  return (
    <>
      <Heading title="Configuration">
        <input type="search" aria-label="Filter keys and values" placeholder="Key or value" value={search} onChange={(event) => narrow(event.target.value)} />
        <button type="button" disabled={found.loading} onClick={found.refresh}>
          Read again
        </button>
      </Heading>
      <p className="lead quiet">What is in force, defaults included. It is changed in its file; secrets are not shown.</p>
      <Outcome query={found}>
        {(tree) => {
          const shown = sections(matching(settings(tree), search));
          if (shown.length === 0) return <Empty>Nothing matches.</Empty>;
          return shown.map(([section, all]) => (
            <section key={section} className="card settings" aria-label={section}>
              <h2 className="mono">{section}</h2>
              <dl className="rows">
                {all.map(({ key, value, masked }) => (
                  <div key={key}>
                    <dt className="mono">{key}</dt>
                    <dd className={masked || value === 'not set' || value === 'none' || value === 'empty' ? 'mono quiet' : 'mono'}>{value}</dd>
                  </div>
                ))}
              </dl>
            </section>
          ));
        }}
      </Outcome>
    </>
  );
}
