/** Tokens of the demo. */

import { Unauthorized } from '@tidegate/client';

const KEY = 'tidegate.market.token';

/**
 * A token from the gateway's demo. The one before goes along, so that a gateway that can renews it for
 * the same user; it is kept where all tabs of the browser see it, as any of them may be asked.
 */
export async function demoToken(): Promise<string> {
  const before = stored();
  const response = await fetch('/demo/token', {
    method: 'POST',
    headers: before ? { authorization: `Bearer ${before}` } : {},
  });
  if (response.status === 404 || response.status === 403) {
    throw new Unauthorized('the demo is off, and with it the tokens for this page (demo.enabled)');
  }
  if (!response.ok) throw new Error(`no token: HTTP ${response.status}`);
  const { token } = (await response.json()) as { token: string };
  store(token);
  return token;
}

function stored(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function store(token: string) {
  try {
    localStorage.setItem(KEY, token);
  } catch {
    // Without storage each token is for a user of its own.
  }
}
