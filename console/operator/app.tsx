import { useCallback, useMemo, useState } from 'react';

import { ThemeSwitch } from '../design/theme';
import { Api } from './api';
import { ChannelPage, Channels } from './pages/channels';
import { Configuration } from './pages/configuration';
import { ConnectionPage, Connections } from './pages/connections';
import { FlagsPage } from './pages/flags';
import { Login } from './pages/login';
import { OverviewPage } from './pages/overview';
import { Proxies, ProxyPage } from './pages/proxies';
import { Relay } from './pages/relay';
import { Heading } from './pieces';
import { ApiContext } from './query';
import { href, Link, type Route, useRoute } from './route';
import { storedToken, storeToken } from './session';

const PAGES = [
  ['', 'Overview'],
  ['connections', 'Connections'],
  ['channels', 'Channels'],
  ['proxies', 'Proxies'],
  ['relay', 'Relay and outbox'],
  ['flags', 'Feature flags'],
  ['configuration', 'Configuration'],
] as const;

export function App() {
  const route = useRoute();
  const [token, setToken] = useState(storedToken);
  const [expired, setExpired] = useState(false);
  const leave = useCallback((refused: boolean) => {
    storeToken(null);
    setToken(null);
    setExpired(refused);
  }, []);
  const api = useMemo(() => (token === null ? null : new Api(token, () => leave(true))), [token, leave]);
  const enter = (given: string) => {
    storeToken(given);
    setToken(given);
    setExpired(false);
  };
  if (!api) return <Login enter={enter} expired={expired} />;
  return (
    <ApiContext value={api}>
      <a className="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById('main')?.focus(); }}>
        Skip to the content
      </a>
      <div className="frame">
        <header className="side">
          <p className="brand">
            <span aria-hidden="true">≈</span> Tidegate <small>console</small>
          </p>
          <nav aria-label="Console">
            <ul>
              {PAGES.map(([page, title]) => (
                <li key={page}>
                  <Link to={href(page)} aria-current={route.page === page ? 'page' : undefined}>
                    {title}
                  </Link>
                </li>
              ))}
            </ul>
          </nav>
          <div className="below">
            <ThemeSwitch />
            <button type="button" onClick={() => leave(false)}>
              Log out
            </button>
          </div>
        </header>
        <main id="main" tabIndex={-1}>
          <Page key={`${route.page}/${route.item}`} route={route} />
        </main>
      </div>
    </ApiContext>
  );
}

function Page({ route }: { route: Route }) {
  const { page, item } = route;
  switch (page) {
    case '':
      return <OverviewPage />;
    case 'connections':
      return item === '' ? <Connections query={route.query} /> : <ConnectionPage client={item} />;
    case 'channels':
      return item === '' ? <Channels query={route.query} /> : <ChannelPage name={item} />;
    case 'proxies':
      return item === '' ? <Proxies query={route.query} /> : <ProxyPage id={item} />;
    case 'relay':
      return <Relay />;
    case 'flags':
      return <FlagsPage />;
    case 'configuration':
      return <Configuration query={route.query} />;
    default:
      return (
        <>
          <Heading title="Not found" />
          <p className="empty">
            There is no such page. <Link to={href('')}>Go to the overview.</Link>
          </p>
        </>
      );
  }
}
