import { type ReactNode, useEffect, useId, useRef, useState } from 'react';

import { ApiError } from './api';
import type { Query } from './query';

/** The heading of a page, which takes the focus when the page comes. */
export function Heading({ title, children }: { title: string; children?: ReactNode }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · Tidegate console`;
    heading.current?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [title]);
  return (
    <div className="heading">
      <h1 ref={heading} tabIndex={-1}>
        {title}
      </h1>
      {children}
    </div>
  );
}

/** What a query came to: its data, or why there is none; `off` for what is not there (404). */
export function Outcome<T>({ query, children, off }: { query: Query<T>; children: (data: T) => ReactNode; off?: ReactNode }) {
  const { data, error, loading, refresh } = query;
  if (data === undefined && error?.status === 404 && off) return <div className="empty">{off}</div>;
  return (
    <>
      {error && <Failure error={error} again={refresh} />}
      {data !== undefined ? children(data) : loading ? <Loading /> : null}
    </>
  );
}

export function Loading() {
  return (
    <p className="empty" role="status">
      Loading …
    </p>
  );
}

export function Failure({ error, again }: { error: ApiError; again?: () => void }) {
  return (
    <div className="notice" data-tone="bad" role="alert">
      <p>
        <strong>{error.status === 0 ? 'No answer' : `HTTP ${error.status}`}</strong>: {error.message}
      </p>
      {again && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Empty({ children }: { children: ReactNode }) {
  return <p className="empty">{children}</p>;
}

export function Pill({ tone, children }: { tone?: 'good' | 'warn' | 'bad' | undefined; children: ReactNode }) {
  return (
    <span className="pill" data-tone={tone}>
      {children}
    </span>
  );
}

export function Facts({ facts }: { facts: [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** A button whose deed is asked about first. A failure is shown where the question stands. */
export function Deed({ label, title, question, sure, danger, act, disabled }: {
  label: string;
  /** What the button is about, for those who do not see its row. */
  title?: string;
  question: ReactNode;
  sure: string;
  danger?: boolean;
  disabled?: boolean;
  act: () => Promise<unknown>;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [open, setOpen] = useState(false);
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<ApiError>();
  const id = useId();
  useEffect(() => {
    if (open) dialog.current?.showModal();
  }, [open]);
  const run = async () => {
    setBusy(true);
    setFailed(undefined);
    try {
      await act();
      dialog.current?.close();
    } catch (error) {
      setFailed(error instanceof ApiError ? error : new ApiError(0, 'internal', String(error)));
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <button type="button" className={danger ? 'danger' : ''} aria-label={title} disabled={disabled} onClick={() => setOpen(true)}>
        {label}
      </button>
      {open && (
        <dialog ref={dialog} aria-labelledby={id} onClose={() => { setOpen(false); setFailed(undefined); }}>
          <div id={id}>{question}</div>
          {failed && <Failure error={failed} />}
          <div className="choices">
            <button type="button" onClick={() => dialog.current?.close()}>
              Cancel
            </button>
            <button type="button" className={danger ? 'danger' : 'primary'} disabled={busy} onClick={run}>
              {busy ? 'Working …' : sure}
            </button>
          </div>
        </dialog>
      )}
    </>
  );
}

/** One page of a list after the other, by the cursors that the gateway gives. */
export function Pager({ shown, first, next, toFirst, toNext }: { shown: number; first: boolean; next: boolean; toFirst: () => void; toNext: () => void }) {
  return (
    <nav className="pager" aria-label="Pages">
      <span className="quiet" role="status">
        {shown} shown
      </span>
      <button type="button" disabled={first} onClick={toFirst}>
        First page
      </button>
      <button type="button" disabled={!next} onClick={toNext}>
        Next page
      </button>
    </nav>
  );
}
