import { type FormEvent, useEffect, useState } from 'react';

import { ThemeSwitch } from '../../design/theme';
import { Api, ApiError } from '../api';

/** Asks for an administrator's token and tries it before it lets anybody in. */
export function Login({ enter, expired }: { enter: (token: string) => void; expired: boolean }) {
  const [token, setToken] = useState('');
  const [busy, setBusy] = useState(false);
  const [said, setSaid] = useState(expired ? 'The token is no longer accepted. Log in again.' : '');
  useEffect(() => {
    document.title = 'Log in · Tidegate console';
  }, []);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const given = token.trim();
    if (given === '') {
      setSaid('Paste a token first.');
      return;
    }
    setBusy(true);
    setSaid('');
    try {
      await new Api(given, () => undefined).ask('/admin/config');
      enter(given);
    } catch (error) {
      setSaid(words(error));
      setBusy(false);
    }
  };
  return (
    <main className="login">
      <p className="brand">
        <span aria-hidden="true">≈</span> Tidegate <small>console</small>
      </p>
      <form onSubmit={submit}>
        <h1>Log in</h1>
        <label htmlFor="token">Administrator token</label>
        <input id="token" type="password" autoComplete="current-password" spellCheck={false} autoFocus value={token} aria-describedby="how said" aria-invalid={said !== ''} onChange={(event) => setToken(event.target.value)} />
        <p id="said" className="said" role="alert">
          {said}
        </p>
        <button type="submit" className="primary" disabled={busy}>
          {busy ? 'Checking …' : 'Log in'}
        </button>
        <p id="how" className="quiet">
          Make one where the gateway runs: <code>tidegate admin-token --name you</code>. It stays in this tab and goes with it.
        </p>
      </form>
      <ThemeSwitch />
    </main>
  );
}

function words(error: unknown): string {
  if (!(error instanceof ApiError)) return 'Something went wrong in this page.';
  if (error.status === 401) return 'This token is not accepted.';
  if (error.status === 429) return 'Too many wrong tokens came from your address. Wait a minute, then try again.';
  if (error.status === 404) return 'The administrator’s API is off (admin.enabled).';
  return `Not logged in: ${error.message}.`;
}
