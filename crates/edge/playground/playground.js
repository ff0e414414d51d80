// The playground: a page that publishes, receives, recovers, sees who is there and talks to an agent.
//
// `Client` and `Subscription` are a small client of the Centrifuge protocol, JSON over WebSocket.
// Below them, the page.

const CHANNEL = 'demo:lobby';
const MESSAGES_SHOWN = 200;
const EARLIER_SHOWN = 20;

/** A refusal of the gateway; `code` is the protocol's error or disconnect code. */
class Refused extends Error {
  constructor({ code, message }) {
    super(message);
    this.code = code;
  }

  /** An expired token or an internal error: the next try may do better. */
  get temporary() {
    return this.code === 109 || this.code === 100;
  }
}

/** An object that says what happened, the detail being what the gateway sent. */
class Emitter extends EventTarget {
  emit(name, detail, reason) {
    this.dispatchEvent(Object.assign(new CustomEvent(name, { detail }), { reason }));
  }
}

/**
 * A channel that is listened to, over connections that come and go.
 *
 * Emits `subscribed`, `publication`, `join`, `leave` and `refused`. After a loss it asks for everything
 * after the last position it saw; what it missed is emitted as publications before `subscribed`.
 */
class Subscription extends Emitter {
  #position = null;

  constructor(channel) {
    super();
    this.channel = channel;
  }

  request() {
    const request = { channel: this.channel };
    return this.#position ? { ...request, recover: true, ...this.#position } : request;
  }

  subscribed(reply) {
    const missed = reply.publications ?? [];
    for (const publication of missed) this.received({ ...publication, recovered: true });
    if (reply.recoverable) {
      const offset = Math.max(reply.offset ?? 0, missed.at(-1)?.offset ?? 0);
      this.#position = { offset, epoch: reply.epoch };
    }
    this.emit('subscribed', { ...reply, missed: missed.length, position: this.#position });
  }

  received(publication) {
    if (publication.offset && this.#position) {
      if (!publication.recovered && publication.offset <= this.#position.offset) return;
      this.#position.offset = publication.offset;
    }
    this.emit('publication', { ...publication, position: this.#position });
  }
}

/**
 * Keeps subscriptions alive over connections that come and go.
 *
 * Emits `state` and `connected`. After a loss it reconnects by itself.
 */
class Client extends Emitter {
  static REPLY_TIMEOUT_MS = 5_000;
  static PING_GRACE_MS = 10_000;
  static BACKOFF_MS = { first: 200, most: 5_000 };

  #socket = null;
  #id = 0;
  #replies = new Map();
  #subscriptions = new Map();
  #failures = 0;
  #timers = {};

  /** @param getToken resolves to `{ token }`; rejecting with `final` set ends the client */
  constructor(url, getToken) {
    super();
    this.url = url;
    this.getToken = getToken;
    this.wanted = false;
  }

  /** Listens to a channel from the next connection on. */
  listen(channel) {
    const subscription = new Subscription(channel);
    this.#subscriptions.set(channel, subscription);
    return subscription;
  }

  /** Does not listen to it any more from the next connection on. */
  forget(subscription) {
    this.#subscriptions.delete(subscription.channel);
  }

  async open() {
    this.wanted = true;
    clearTimeout(this.#timers.retry);
    this.emit('state', 'connecting');
    let token;
    try {
      ({ token } = await this.getToken());
    } catch (error) {
      return error.final ? this.end(error.message) : this.#retry();
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
    this.emit('state', 'cut');
  }

  publish({ channel }, data) {
    return this.#ask('publish', { channel, data });
  }

  history({ channel }, limit) {
    return this.#ask('history', { channel, limit, reverse: true });
  }

  presence({ channel }) {
    return this.#ask('presence', { channel });
  }

  rpc(method, data) {
    return this.#ask('rpc', { method, data }).then((reply) => reply.data);
  }

  async #greet(token) {
    try {
      // All commands go out at once: the gateway answers them in order.
      const connected = this.#ask('connect', { token, name: 'playground' });
      const subscribed = [...this.#subscriptions.values()].map((each) => this.#subscribe(each));
      for (const each of subscribed) each.catch(() => {}); // if connecting fails, that is the error to report
      const session = await connected;
      this.#failures = 0;
      this.pong = session.pong;
      this.pingMs = (session.ping ?? 0) * 1_000;
      this.#heard();
      if (session.expires) this.#renewIn(session.ttl);
      this.emit('state', 'connected');
      this.emit('connected', session);
      await Promise.all(subscribed);
    } catch (error) {
      if (error instanceof Refused && !error.temporary) this.end(error.message);
      else this.#socket?.close();
    }
  }

  /** A refusal is for whoever listens; the connection goes on without the channel. */
  async #subscribe(subscription) {
    try {
      subscription.subscribed(await this.#ask('subscribe', subscription.request()));
    } catch (error) {
      if (!(error instanceof Refused) || error.temporary) throw error;
      subscription.emit('refused', error);
    }
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
    const subscription = this.#subscriptions.get(channel);
    if (!subscription) return;
    if (pub) subscription.received(pub);
    if (join) subscription.emit('join', join.info);
    if (leave) subscription.emit('leave', leave.info);
    if (unsubscribe?.code >= 2500) {
      this.#subscribe(subscription).catch(() => this.#socket?.close());
    } else if (unsubscribe) {
      subscription.emit('refused', new Refused({ ...unsubscribe, message: unsubscribe.reason }));
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
    if (final) this.end(reason);
    else this.#retry();
  }

  #retry() {
    if (!this.wanted) return;
    this.emit('state', 'reconnecting');
    // Full jitter: after a restart of the gateway its clients do not come back all at once.
    const { first, most } = Client.BACKOFF_MS;
    const ceiling = Math.min(most, first * 2 ** this.#failures++);
    this.#timers.retry = setTimeout(() => this.open(), Math.random() * ceiling);
  }

  /** Ends the connection for good, unless it is opened again. */
  end(reason) {
    this.wanted = false;
    const socket = this.#socket;
    this.#forget();
    socket?.close();
    this.emit('state', 'disconnected', reason);
  }

  #forget() {
    if (this.#socket) this.#socket.onclose = null;
    this.#socket = null;
    clearTimeout(this.#timers.silence);
    clearTimeout(this.#timers.renewal);
    for (const id of [...this.#replies.keys()]) this.#settle(id).reject(new Error('connection lost'));
  }
}

// ---- the page ----

const element = (id) => document.getElementById(id);
const log = { box: 'log', list: 'messages', empty: 'empty' };
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
  append(log, message({ data, info, offset, recovered }));
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
  append(log, part('note', text, 'li'));
}

/** Adds an item to a list of messages, which follows its end unless someone has scrolled away. */
function append(names, item) {
  const [box, list] = [element(names.box), element(names.list)];
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  element(names.empty).hidden = true;
  list.append(item);
  while (list.childElementCount > MESSAGES_SHOWN) list.firstElementChild.remove();
  if (atEnd) box.scrollTop = box.scrollHeight;
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

/** The conversation with the agent that the relay finds for this user. */
class Talk {
  static SHOWN = { box: 'agent-log', list: 'agent-messages', empty: 'agent-empty' };

  #client;
  #subscription = null;
  #sent = new Map();
  #count = 0;

  constructor(client) {
    this.#client = client;
    element('ask').addEventListener('submit', (event) => {
      event.preventDefault();
      const text = element('question').value.trim();
      if (text !== '') this.#say(text);
      element('question').focus();
    });
  }

  /** A user's agent is heard on the user's own channel, and rests there while the user is away. */
  belongTo(user) {
    const channel = `agent.${user}`;
    if (this.#subscription?.channel === channel) return;
    if (this.#subscription) this.#client.forget(this.#subscription);
    this.#sent.clear();
    this.#subscription = this.#client.listen(channel);
    this.#subscription.addEventListener('subscribed', () => this.ready(true));
    this.#subscription.addEventListener('publication', ({ detail }) => this.#heard(detail.data));
    this.#subscription.addEventListener('refused', () => {
      this.ready(false);
      element('agent-empty').textContent = 'The relay is off on this gateway, so there is no agent.';
      element('agent-empty').hidden = false;
    });
  }

  ready(isReady) {
    element('tell').disabled = !isReady;
  }

  async #say(text) {
    const messageId = `m-${Date.now()}-${++this.#count}`;
    const begun = performance.now();
    const state = part('when', 'sending');
    const item = part('mine', '', 'li');
    item.append(part('who', 'you'), state, part('said', text));
    append(Talk.SHOWN, item);
    this.#sent.set(messageId, { begun, state });
    if (this.#sent.size > MESSAGES_SHOWN) this.#sent.delete(this.#sent.keys().next().value);
    element('question').value = '';
    try {
      const message = { messageId, data: text, ack: 'durable' };
      const { level } = await this.#client.rpc(this.#subscription.channel, message);
      state.textContent = `${level}, ${(performance.now() - begun).toFixed(1)} ms`;
    } catch (error) {
      state.textContent = `not taken: ${error.message}`;
    }
  }

  #heard(message) {
    if (message?.type === 2) {
      // What was given up: the gateway names the message and says why.
      const lost = message.action === 'error' && this.#sent.get(message.messageId);
      if (lost) lost.state.textContent = `not delivered: ${message.error}`;
      return;
    }
    const text = message?.type === 1 ? 'bytes' : String(message?.data ?? '');
    const asked = this.#sent.get(message?.inReplyTo || message?.messageId?.replace(/^echo-/, ''));
    const took = asked ? `${(performance.now() - asked.begun).toFixed(1)} ms` : '';
    const item = document.createElement('li');
    item.append(part('who', 'agent'), part('when', took), part('said', text));
    append(Talk.SHOWN, item);
  }
}

function start() {
  const url = new URL('/connection/websocket', location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  const client = new Client(url, async () => {
    const made = await demoToken();
    element('demo').hidden = false;
    element('user').textContent = made.user;
    talk.belongTo(made.user);
    return made;
  });
  const lobby = client.listen(CHANNEL);
  const talk = new Talk(client);
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
    if (!ready) talk.ready(false);
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
  lobby.addEventListener('refused', ({ detail: error }) => client.end(error.message));
  lobby.addEventListener('subscribed', async ({ detail }) => {
    showPosition(detail.position);
    if (!arrived) {
      arrived = true;
      const { publications = [] } = await client.history(lobby, EARLIER_SHOWN).catch(() => ({}));
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
    const { presence } = await client.presence(lobby).catch(() => ({ presence: {} }));
    people.clear();
    for (const [id, info] of Object.entries(presence ?? {})) people.set(id, info);
    showPeople();
  });
  lobby.addEventListener('publication', ({ detail }) => {
    if (detail.info?.client === me && typeof detail.data?.sent === 'number') {
      const took = performance.now() - detail.data.sent;
      element('latency').textContent = `${took.toFixed(1)} ms`;
    }
    showPosition(detail.position);
    show(detail);
  });
  lobby.addEventListener('join', ({ detail: info }) => {
    people.set(info.client, info);
    showPeople();
    if (info.client !== me) note(`${info.user} joined`);
  });
  lobby.addEventListener('leave', ({ detail: info }) => {
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
      await client.publish(lobby, { text, sent: performance.now() });
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
      const { publications = [], offset } = await client.history(lobby, 20);
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
