import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from 'react';

import { duration, millis, whole } from '../design/format';
import { ThemeSwitch } from '../design/theme';
import { Announcer } from './announcer';
import { Board } from './board';
import type { Feed } from './feed';
import { type Column, type Order, turned } from './order';

const HEADS: [Column, string][] = [
  ['symbol', 'Symbol'],
  ['last', 'Last'],
  ['change', 'Change'],
  ['bidSize', 'Bid size'],
  ['bid', 'Bid'],
  ['ask', 'Ask'],
  ['askSize', 'Ask size'],
  ['volume', 'Volume'],
];

export function Screen({ feed }: { feed: Feed }) {
  const body = useRef<HTMLTableSectionElement>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const board = useRef<Board>(undefined);
  const announcer = useRef<Announcer>(undefined);
  const [order, setOrder] = useState<Order>({ column: 'symbol', descending: false });
  const [search, setSearch] = useState('');
  const [paused, setPaused] = useState(false);
  const [count, setCount] = useState({ shown: 0, all: 0 });
  const [said, setSaid] = useState('');

  useEffect(() => {
    if (!body.current || !scroller.current) return;
    const words = new Announcer(setSaid);
    const made = new Board({
      body: body.current,
      scroller: scroller.current,
      counted: (shown, all) => setCount((was) => (was.shown === shown && was.all === all ? was : { shown, all })),
      said: (row) => words.say(row),
    });
    announcer.current = words;
    board.current = made;
    feed.start(made);
    return () => {
      feed.stop();
      made.end();
      words.end();
    };
  }, [feed]);

  const announce = useCallback((words: string) => announcer.current?.say(words), []);
  const sort = (column: Column) => {
    const next = turned(order, column);
    setOrder(next);
    board.current?.sort(next, performance.now());
    announce(`sorted by ${column}, ${next.descending ? 'descending' : 'ascending'}`);
  };
  const narrow = (text: string) => {
    setSearch(text);
    board.current?.filter(text, performance.now());
  };
  const pause = () => {
    feed.pause(!paused);
    setPaused(!paused);
    announce(paused ? 'goes on' : 'paused');
  };

  return (
    <div className="market">
      <a className="skip" href="#quotes" onClick={(event) => { event.preventDefault(); body.current?.querySelector<HTMLElement>('tr[tabindex="0"]')?.focus(); }}>
        Skip to the quotes
      </a>
      <header>
        <h1 className="brand">
          <span aria-hidden="true">≈</span> Tidegate <small>market</small>
        </h1>
        <Connection feed={feed} announce={announce} />
        <div className="controls">
          <input type="search" aria-label="Filter symbols" placeholder="Filter symbols" value={search} onChange={(event) => narrow(event.target.value)} />
          <button type="button" aria-pressed={paused} onClick={pause}>
            {paused ? 'Go on' : 'Pause'}
          </button>
          <ThemeSwitch />
        </div>
      </header>
      <main>
        <Figures feed={feed} />
        <div className="quotes" ref={scroller}>
          <table role="table" id="quotes" aria-rowcount={count.all} aria-describedby="keys">
            <caption className="heard" id="keys">
              Latest quotes. In the rows, arrows move and Enter reads a row out.
            </caption>
            <thead role="rowgroup">
              <tr role="row">
                {HEADS.map(([column, title]) => (
                  <th key={column} role="columnheader" scope="col" className={column} aria-sort={order.column === column ? (order.descending ? 'descending' : 'ascending') : undefined}>
                    <button type="button" className="plain" onClick={() => sort(column)}>
                      {title}
                      <span aria-hidden="true" className="arrow">{order.column === column ? (order.descending ? '↓' : '↑') : ''}</span>
                    </button>
                  </th>
                ))}
                <th role="columnheader" scope="col" className="trend">30 s</th>
              </tr>
            </thead>
            <tbody role="rowgroup" ref={body} />
          </table>
          {count.shown === 0 && <p className="empty">{count.all > 0 ? 'No symbol matches.' : <Waiting feed={feed} />}</p>}
        </div>
      </main>
      <footer>
        <span>
          {count.shown === count.all ? `${whole(count.all)} symbols` : `${whole(count.shown)} of ${whole(count.all)} symbols`}
        </span>
        <span>Change is since this page was opened. All tabs of this browser share one connection: open another one and look at the tabs.</span>
      </footer>
      <p className="heard" role="status">
        {said}
      </p>
    </div>
  );
}

function useFeed(feed: Feed) {
  return useSyncExternalStore(feed.listen, feed.state);
}

function Waiting({ feed }: { feed: Feed }) {
  const { state, reason } = useFeed(feed);
  if (state === 'connected') return 'Waiting for the first snapshot …';
  return state === 'connecting' ? 'Connecting …' : `Not connected${reason ? `: ${reason}` : ''}.`;
}

function Connection({ feed, announce }: { feed: Feed; announce: (words: string) => void }) {
  const { state, reason, stale, snapshotAgeMs, degrade } = useFeed(feed);
  const words = state === 'connected' ? (stale ? `no data for ${duration(snapshotAgeMs / 1_000)}` : 'live') : state;
  const tone = state === 'connected' ? (stale ? 'warn' : 'good') : state === 'connecting' ? 'warn' : 'bad';
  const spoken = `${state === 'connected' ? (stale ? 'no data' : 'live') : state}${degrade === 'none' ? '' : `, ${degrade}`}`;
  useEffect(() => announce(spoken), [spoken, announce]);
  return (
    <>
      <span className="pill" data-tone={tone}>
        {words}
        {state === 'disconnected' && reason ? `: ${reason}` : ''}
      </span>
      {state === 'disconnected' && (
        <button type="button" onClick={() => feed.reconnect()}>
          Connect again
        </button>
      )}
    </>
  );
}

const MODES: Record<string, string> = { 'shared-worker': 'shared worker', leader: 'leading tab', own: 'own connection' };
const DEGRADES: Record<string, string> = { none: 'full', sampling: 'sampling', trimming: 'trimming', stopped: 'stopped' };

function Figures({ feed }: { feed: Feed }) {
  const { snapshotAgeMs, latencyMs, dataLatencyMs, frameP95Ms, updatesPerSecond, connections, tabs, mode, degrade, gaps, symbols } = useFeed(feed);
  const facts: [string, string, string?][] = [
    ['Snapshot age', symbols === 0 ? '–' : millis(snapshotAgeMs)],
    ['Latency', millis(dataLatencyMs)],
    ['Round trip', millis(latencyMs)],
    ['Frame, p95', millis(frameP95Ms), frameP95Ms > 8 ? 'warn' : undefined],
    ['Updates', `${whole(updatesPerSecond)}/s`],
    ['Tabs', tabs === 0 ? '–' : `${tabs} ${tabs === 1 ? 'tab' : 'tabs'} = ${connections} connection${connections === 1 ? '' : 's'}`],
    ['Held by', MODES[mode] ?? mode],
    ['Detail', DEGRADES[degrade] ?? degrade, degrade === 'none' ? undefined : 'warn'],
    ['Gaps', whole(gaps)],
  ];
  return (
    <dl className="figures">
      {facts.map(([name, value, tone]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd data-tone={tone}>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
