import { type FormEvent, useEffect, useState } from 'react';

import { ApiError } from '../api';
import { type Change, type Flag, fault, list, present, removal, setting } from '../flags';
import { Deed, Empty, Failure, Heading, Outcome } from '../pieces';
import { useApi, useQuery } from '../query';
import type { Flags } from '../shapes';

const PATH = '/admin/feature-flags';

export function FlagsPage() {
  const api = useApi();
  const found = useQuery<Flags>(PATH);
  const [changed, setChanged] = useState<Flags>();
  const [failed, setFailed] = useState<ApiError>();
  const [conflict, setConflict] = useState('');
  const [said, setSaid] = useState('');
  // Whichever is newer: what was read, or what a change came back with.
  const known = changed && changed.version >= (found.data?.version ?? 0) ? changed : found.data;

  const send = async (change: Change, done: string) => {
    setFailed(undefined);
    setConflict('');
    setSaid('');
    try {
      setChanged(await api.ask<Flags>(PATH, { method: 'POST', body: change }));
      setSaid(done);
      return true;
    } catch (error) {
      if (error instanceof ApiError && error.status === 409) {
        const now = present(error.body);
        if (now) setChanged(now);
        else found.refresh();
        setConflict(`Somebody else changed the flags meanwhile${now ? `; version ${now.version} is in force` : ''}. Nothing of yours was set: look at what is there now, and try again.`);
      } else {
        setFailed(error instanceof ApiError ? error : new ApiError(0, 'internal', String(error)));
      }
      return false;
    }
  };

  return (
    <>
      <Heading title="Feature flags">{known && <span className="quiet">version {known.version}</span>}</Heading>
      <p className="lead quiet">A change is in force at once, on all gateways, and is pushed to all clients that listen to <code>xy.flags</code>. A percentage turns a flag on for that share of the users, always the same ones.</p>
      {conflict && (
        <div className="notice" data-tone="warn" role="alert">
          <p>{conflict}</p>
          <button type="button" onClick={() => setConflict('')}>
            Understood
          </button>
        </div>
      )}
      {failed && <Failure error={failed} />}
      <p className="heard" role="status">
        {said}
      </p>
      <Outcome query={{ ...found, data: known }} off="Feature flags are off.">
        {(flags) => (
          <>
            {list(flags).length === 0 ? (
              <Empty>There are no flags yet.</Empty>
            ) : (
              <div className="scroll">
                <table>
                  <thead>
                    <tr>
                      <th scope="col">Flag</th>
                      <th scope="col">State</th>
                      <th scope="col">Share of users</th>
                      <th scope="col"><span className="heard">Actions</span></th>
                    </tr>
                  </thead>
                  <tbody>
                    {list(flags).map((flag) => (
                      <Row key={flag.name} flag={flag} set={(next) => send(setting(next, flags.version), `${next.name} is ${next.enabled ? `on for ${next.percentage} %` : 'off'}`)} remove={() => send(removal(flag.name, flags.version), `${flag.name} is gone`)} />
                    ))}
                  </tbody>
                </table>
              </div>
            )}
            <Add flags={flags} add={(flag) => send(setting(flag, flags.version), `${flag.name} was added, off`)} />
          </>
        )}
      </Outcome>
    </>
  );
}

function Row({ flag, set, remove }: { flag: Flag; set: (next: Flag) => Promise<boolean>; remove: () => Promise<boolean> }) {
  const { name, enabled, percentage } = flag;
  const [share, setShare] = useState(String(percentage));
  const [busy, setBusy] = useState(false);
  useEffect(() => setShare(String(percentage)), [percentage]);
  const wanted = /^\d{1,3}$/.test(share) && Number(share) <= 100 ? Number(share) : null;
  const change = async (next: Flag) => {
    setBusy(true);
    if (!(await set(next))) setShare(String(percentage));
    setBusy(false);
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (wanted !== null) void change({ name, enabled, percentage: wanted });
  };
  return (
    <tr>
      <th scope="row" className="mono">
        {name}
      </th>
      <td>
        <button type="button" role="switch" aria-checked={enabled} aria-label={name} className="switch" disabled={busy} onClick={() => change({ name, enabled: !enabled, percentage })}>
          <span aria-hidden="true" /> {enabled ? 'on' : 'off'}
        </button>
      </td>
      <td>
        <form className="share" onSubmit={submit}>
          <input type="range" min="0" max="100" step="1" aria-label={`Share of users for ${name}, percent`} disabled={busy} value={wanted ?? percentage} onChange={(event) => setShare(event.target.value)} />
          <input type="text" inputMode="numeric" size={3} aria-label={`Percent for ${name}`} aria-invalid={wanted === null} disabled={busy} value={share} onChange={(event) => setShare(event.target.value)} />
          <span className="quiet">%</span>
          <button type="submit" disabled={busy || wanted === null || wanted === percentage}>
            Set
          </button>
        </form>
      </td>
      <td className="number">
        <Deed
          label="Remove"
          title={`Remove ${name}`}
          danger
          question={
            <>
              <h2>Remove {name}?</h2>
              <p>For whoever asks for it, a flag that is not there is off.</p>
            </>
          }
          sure="Remove"
          act={remove}
        />
      </td>
    </tr>
  );
}

function Add({ flags, add }: { flags: Flags; add: (flag: Flag) => Promise<boolean> }) {
  const [name, setName] = useState('');
  const [why, setWhy] = useState('');
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const wrong = fault(name.trim(), flags);
    setWhy(wrong ?? '');
    if (!wrong && (await add({ name: name.trim(), enabled: false, percentage: 100 }))) setName('');
  };
  return (
    <form className="add" onSubmit={submit}>
      <label htmlFor="name">New flag</label>
      <input id="name" className="mono" autoComplete="off" spellCheck={false} placeholder="checkout.new-flow" value={name} aria-describedby="why" aria-invalid={why !== ''} onChange={(event) => setName(event.target.value)} />
      <button type="submit">Add, off</button>
      <p id="why" className="said" role="alert">
        {why}
      </p>
    </form>
  );
}
