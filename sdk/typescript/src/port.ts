// Two ends that pass messages to each other.

/** One end. Messages are structured clones: nothing is shared between the ends. */
export interface Port<Out, In> {
  post(message: Out): void;
  /** Called with each message of the other end, in their order. */
  onmessage: ((message: In) => void) | null;
  /** Called at most once, when the other end is known to be gone. */
  onlost: ((reason: string) => void) | null;
  close(): void;
}

/** A port over a `MessagePort`. */
export function overMessagePort<Out, In>(inner: MessagePort): Port<Out, In> {
  const port: Port<Out, In> = {
    post: (message) => inner.postMessage(message),
    onmessage: null,
    onlost: null,
    close() {
      inner.onmessage = null;
      inner.close();
    },
  };
  inner.onmessage = (event: MessageEvent<In>) => port.onmessage?.(event.data);
  return port;
}

/** Two ends within this page. Messages arrive in a later turn, as they do from elsewhere. */
export function localPorts<A, B>(): [Port<A, B>, Port<B, A>] {
  const closed = new Set<unknown>();
  const end = <Out, In>(other: () => Port<In, Out>): Port<Out, In> => {
    const port: Port<Out, In> = {
      post(message) {
        if (closed.has(port)) return;
        queueMicrotask(() => {
          if (!closed.has(other())) other().onmessage?.(message);
        });
      },
      onmessage: null,
      onlost: null,
      close: () => void closed.add(port),
    };
    return port;
  };
  const first: Port<A, B> = end<A, B>(() => second);
  const second: Port<B, A> = end<B, A>(() => first);
  return [first, second];
}
