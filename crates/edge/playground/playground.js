// The playground: a page that publishes, receives, recovers and sees who is there.
//
// `Client` is a small client of the Centrifuge protocol, JSON over WebSocket, enough for one channel.
// Below it, the page.

const CHANNEL = 'demo:lobby';
const MESSAGES_SHOWN = 200;
const EARLIER_SHOWN = 20;

/** A refusal of the gateway; `code` is the protocol's error or disconnect code. */
class Refused extends Error {
  constructor({ code, message }) {
    super(message);
    this.code = code;
  }
}

/**
 * Keeps one subscription alive over connections that come and go.
 *
 * Emits `state`, `connected`, `subscribed`, `publication`, `join` and `leave`, the detail being what
 * the gateway sent. After a loss it reconnects by itself, asking for everything after the last
 * position it saw; what it missed is emitted as publications before `subscribed`.
 */
class Client extends EventTarget {
  static REPLY_TIMEOUT_MS = 5_000;
  static PING_GRACE_MS = 10_000;
  static BACKOFF_MS = { first: 200, most: 5_000 };

  #socket = null;
  #id = 0;
  #replies = new Map();
  #position = null;
  #failures = 0;
  #timers = {};

  /** @param getToken resolves to `{ token }`; rejecting with `final` set ends the client */
  constructor(url, channel, getToken) {
    super();
    this.url = url;
    this.channel = channel;
    this.getToken = getToken;
    this.wanted = false;
  }

  async open() {
    this.wanted = true;
    clearTimeout(this.#timers.retry);
    this.#emit('state', 'connecting');
    let token;
    try {
      ({ token } = await this.getToken());
    } catch (error) {
      return error.final ? this.#end(error.message) : this.#retry();
    }
    if (!this.wanted || this.#socket) return;
    const socket = new WebSocket(this.url);
    this.#socket = socket;
    socket.onopen = () => this.#greet(token);
    socket.onmessage = ({ data }) => this.#read(data);
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
  }

  /** Drops the connection without a word and stays away until `open`. */
  cut() {
    this.wanted = false;
    clearTimeout(this.#timers.retry);
    const socket = this.#socket;
    this.#forget();
    socket?.close();
    this.#emit('state', 'cut');
  }

  publish(data) {
    return this.#ask('publish', { channel: this.channel, data });
  }

  history(limit) {
    return this.#ask('history', { channel: this.channel, limit, reverse: true });
  }

  presence() {
    return this.#ask('presence', { channel: this.channel });
  }

  async #greet(token) {
    try {
      // Both commands go out at once: the gateway answers them in order.
      const connected = this.#ask('connect', { token, name: 'playground' });
      const subscribed = this.#ask('subscribe', this.#subscription());
      subscribed.catch(() => {}); // if connecting fails, that is the error to report
      const session = await connected;
      this.#failures = 0;
      this.pong = session.pong;
      this.pingMs = (session.ping ?? 0) * 1_000;
      this.#heard();
      if (session.expires) this.#renewIn(session.ttl);
      this.#emit('state', 'connected');
      this.#emit('connected', session);
      this.#subscribed(await subscribed);
    } catch (error) {
      const final = error instanceof Refused && error.code !== 109 && error.code !== 100;
      if (final) this.#end(error.message);
      else this.#socket?.close();
    }
  }

  #subscription() {
    const request = { channel: this.channel };
    return this.#position ? { ...request, recover: true, ...this.#position } : request;
  }

  #subscribed(reply) {
    const missed = reply.publications ?? [];
    for (const publication of missed) this.#received({ ...publication, recovered: true });
    if (reply.recoverable) {
      const offset = Math.max(reply.offset ?? 0, missed.at(-1)?.offset ?? 0);
      this.#position = { offset, epoch: reply.epoch };
    }
    this.#emit('subscribed', { ...reply, missed: missed.length, position: this.#position });
  }

  #received(publication) {
    if (publication.offset && this.#position) {
      if (!publication.recovered && publication.offset <= this.#position.offset) return;
      this.#position.offset = publication.offset;
    }
    this.#emit('publication', { ...publication, position: this.#position });
  }

  /** Asks the gateway; resolves to the reply, rejects on an error, a loss or a time-out. */
  #ask(command, request) {
    const id = ++this.#id;
    return new Promise((resolve, reject) => {
      if (this.#socket?.readyState !== WebSocket.OPEN) {
        reject(new Error('not connected'));
        return;
      }
      const late = setTimeout(() => this.#settle(id)?.reject(new Error('no reply')), Client.REPLY_TIMEOUT_MS);
      this.#replies.set(id, { command, resolve, reject, late });
      this.#socket.send(JSON.stringify({ id, [command]: request }));
    });
  }

  #settle(id) {
    const waiting = this.#replies.get(id);
    clearTimeout(waiting?.late);
    this.#replies.delete(id);
    return waiting;
  }

  #read(text) {
    this.#heard();
    for (const line of text.split('\n').filter((line) => line !== '')) {
      const { id, error, push, ...reply } = JSON.parse(line);
      if (id) {
        const waiting = this.#settle(id);
        if (error) waiting?.reject(new Refused(error));
        else waiting?.resolve(reply[waiting.command] ?? {});
      } else if (push) {
        this.#pushed(push);
      } else if (this.pong) {
        this.#socket?.send('{}');
      }
    }
  }

  #pushed({ channel, pub, join, leave, unsubscribe }) {
    if (channel !== this.channel) return;
    if (pub) this.#received(pub);
    if (join) this.#emit('join', join.info);
    if (leave) this.#emit('leave', leave.info);
    if (unsubscribe?.code >= 2500) {
      this.#ask('subscribe', this.#subscription()).then(
        (reply) => this.#subscribed(reply),
        () => this.#socket?.close(),
      );
    } else if (unsubscribe) {
      this.#end(unsubscribe.reason);
    }
  }

  /** A gateway that says nothing for longer than its ping interval allows is gone. */
  #heard() {
    clearTimeout(this.#timers.silence);
    if (!this.pingMs) return;
    const patience = this.pingMs + Client.PING_GRACE_MS;
    this.#timers.silence = setTimeout(() => this.#socket?.close(), patience);
  }

  /** Each token of the demo names a new user, and a connection keeps its user: so a new connection. */
  #renewIn(seconds) {
    this.#timers.renewal = setTimeout(() => this.#socket?.close(), seconds * 1_000);
  }

  #lost(code, reason) {
    if (!this.#socket) return;
    this.#forget();
    const final = (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
    if (final) this.#end(reason);
    else this.#retry();
  }

  #retry() {
    if (!this.wanted) return;
    this.#emit('state', 'reconnecting');
    // Full jitter: after a restart of the gateway its clients do not come back all at once.
    const { first, most } = Client.BACKOFF_MS;
    const ceiling = Math.min(most, first * 2 ** this.#failures++);
    this.#timers.retry = setTimeout(() => this.open(), Math.random() * ceiling);
  }

  #end(reason) {
    this.wanted = false;
    const socket = this.#socket;
    this.#forget();
    socket?.close();
    this.#emit('state', 'disconnected', reason);
  }

  #forget() {
    if (this.#socket) this.#socket.onclose = null;
    this.#socket = null;
    clearTimeout(this.#timers.silence);
    clearTimeout(this.#timers.renewal);
    for (const id of [...this.#replies.keys()]) this.#settle(id).reject(new Error('connection lost'));
  }

  #emit(name, detail, reason) {
    this.dispatchEvent(Object.assign(new CustomEvent(name, { detail }), { reason }));
  }
}

// ---- the page ----

const element = (id) => document.getElementById(id);
const people = new Map();
let me = null;
let arrived = false;
let pass = null;

const demoIsOff = Object.assign(new Error('the demo is off'), { final: true });

/** The current token, or a new one from the gateway's demo when that is about to expire. */
async function demoToken() {
  if (pass && pass.until > Date.now()) return pass;
  const response = await fetch('/demo/token', { method: 'POST' });
  if (response.status === 403 || response.status === 404) throw demoIsOff;
  if (!response.ok) throw new Error(`no token: HTTP ${response.status}`);
  const made = await response.json();
  pass = { ...made, until: Date.now() + made.expires_in * 900 };
  return pass;
}

function show({ data, info, offset, recovered }) {
  append(message({ data, info, offset, recovered }));
}

function message({ data, info, offset, recovered }) {
  const item = document.createElement('li');
  item.classList.toggle('mine', info?.client === me);
  item.classList.toggle('recovered', recovered === true);
  const said = typeof data?.text === 'string' ? data.text : JSON.stringify(data);
  const position = offset ? `#${offset}` : '';
  item.append(
    part('who', info ? info.user || 'anonymous' : 'server'),
    part('when', `${recovered ? 'recovered ' : ''}${position}`),
    part('said', said),
  );
  return item;
}

/** What was said before this page came, above everything it has heard itself. */
function showEarlier(publications) {
  if (publications.length === 0) return;
  const made = publications.map(message);
  element('empty').hidden = true;
  element('messages').prepend(...made, part('note', 'earlier messages, from history', 'li'));
  element('log').scrollTop = element('log').scrollHeight;
}

function note(text) {
  const item = part('note', text, 'li');
  append(item);
}

function append(item) {
  const [log, list] = [element('log'), element('messages')];
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  element('empty').hidden = true;
  list.append(item);
  while (list.childElementCount > MESSAGES_SHOWN) list.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function part(name, text, tag = 'span') {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}

function showPeople() {
  const list = [...people.values()].sort((a, b) => a.user.localeCompare(b.user));
  element('here-count').textContent = list.length;
  element('people').replaceChildren(
    ...list.map(({ user, client }) => part('', client === me ? `${user} (you)` : user, 'li')),
  );
}

function showPosition(position) {
  element('offset').textContent = position?.offset ?? '–';
  element('epoch').textContent = position?.epoch ?? '–';
}

function outcome(text) {
  element('outcome').textContent = text;
}

function start() {
  const url = new URL('/connection/websocket', location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  const client = new Client(url, CHANNEL, async () => {
    const made = await demoToken();
    element('demo').hidden = false;
    element('user').textContent = made.user;
    return made;
  });
  element('channel').textContent = CHANNEL;

  client.addEventListener('state', ({ detail: state, reason }) => {
    const badge = element('state');
    badge.dataset.state = state;
    badge.textContent = reason ? `${state}: ${reason}` : state;
    if (reason === demoIsOff.message) {
      element('demo-off').hidden = false;
      element('demo').hidden = true;
    }
    const ready = state === 'connected';
    for (const id of ['send', 'history']) element(id).disabled = !ready;
    const cut = element('cut');
    cut.classList.toggle('primary', !client.wanted);
    element('people').classList.toggle('stale', !ready);
    cut.textContent = client.wanted ? 'Cut the connection' : 'Reconnect';
  });
  client.addEventListener('connected', ({ detail }) => {
    me = detail.client;
    element('client').textContent = detail.client;
    element('client').title = detail.client;
  });
  client.addEventListener('subscribed', async ({ detail }) => {
    showPosition(detail.position);
    if (!arrived) {
      arrived = true;
      const { publications = [] } = await client.history(EARLIER_SHOWN).catch(() => ({}));
      // What came since the subscription has been shown as it came.
      showEarlier(publications.filter(({ offset }) => offset <= (detail.offset ?? 0)).reverse());
    }
    if (detail.was_recovering) {
      const messages = detail.missed === 1 ? '1 message' : `${detail.missed} messages`;
      outcome(
        detail.recovered
          ? `recovered: true, ${messages} came back`
          : 'recovered: false, the stream was lost (new epoch)',
      );
    }
    const { presence } = await client.presence().catch(() => ({ presence: {} }));
    people.clear();
    for (const [id, info] of Object.entries(presence ?? {})) people.set(id, info);
    showPeople();
  });
  client.addEventListener('publication', ({ detail }) => {
    if (detail.info?.client === me && typeof detail.data?.sent === 'number') {
      const took = performance.now() - detail.data.sent;
      element('latency').textContent = `${took.toFixed(1)} ms`;
    }
    showPosition(detail.position);
    show(detail);
  });
  client.addEventListener('join', ({ detail: info }) => {
    people.set(info.client, info);
    showPeople();
    if (info.client !== me) note(`${info.user} joined`);
  });
  client.addEventListener('leave', ({ detail: info }) => {
    people.delete(info.client);
    showPeople();
    note(`${info.user} left`);
  });

  element('publish').addEventListener('submit', async (event) => {
    event.preventDefault();
    const input = element('text');
    const text = input.value.trim();
    if (text === '') return;
    try {
      await client.publish({ text, sent: performance.now() });
      input.value = '';
    } catch (error) {
      outcome(`not published: ${error.message}`);
    }
    input.focus();
  });
  element('cut').addEventListener('click', () => {
    if (!client.wanted) {
      client.open();
      return;
    }
    client.cut();
    note('connection cut');
    outcome('cut: publish from a second tab, then reconnect');
  });
  element('history').addEventListener('click', async () => {
    try {
      const { publications = [], offset } = await client.history(20);
      const [latest] = publications.map(({ data }) => data?.text ?? JSON.stringify(data));
      const read = `read ${publications.length} of ${offset ?? 0} messages`;
      outcome(latest === undefined ? read : `${read}, the latest: ${latest.slice(0, 60)}`);
    } catch (error) {
      outcome(`no history: ${error.message}`);
    }
  });

  client.open();
}

start();
