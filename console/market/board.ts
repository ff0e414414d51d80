/**
 * The rows of the table. They are changed by hand and not by React: at thirty batches a second each
 * change is a few texts of a few cells, and only of rows that are seen.
 *
 * All symbols have their row in the document, so that whoever reads or searches the page finds them.
 * A row that is out of sight is only marked, and painted when it comes into sight.
 */

import { compare, matches, type Order, type Standing } from './order';
import { change, price, type Quote, size } from './quote';
import { SAMPLE_MS, Sparkline } from './sparkline';

/** How long a price that moved is lit up. */
const LIT_MS = 200;
/** How often the order may change: rows that jump can't be read. */
const ARRANGE_MS = 1_000;

const CELLS = ['symbol', 'last', 'change', 'bidSize', 'bid', 'ask', 'askSize', 'volume'] as const;
type Cell = (typeof CELLS)[number];

interface Row extends Standing {
  element: HTMLTableRowElement;
  texts: Record<Cell, Text>;
  cells: Record<Cell, HTMLTableCellElement>;
  spark: Sparkline;
  first: number;
  painted: Quote | null;
  /** Up, down, or not yet moved. */
  direction: -1 | 0 | 1;
  litUntil: number;
  /** The price has moved since it was painted. */
  moved: boolean;
  seen: boolean;
  dirty: boolean;
}

export interface BoardOptions {
  body: HTMLTableSectionElement;
  scroller: HTMLElement;
  /** Told how many rows there are and how many of them are shown. */
  counted: (shown: number, all: number) => void;
  /** Told what to say about a row that somebody asked about. */
  said: (words: string) => void;
}

export class Board {
  readonly #options: BoardOptions;
  readonly #rows = new Map<string, Row>();
  readonly #byElement = new WeakMap<Element, Row>();
  readonly #lit = new Set<Row>();
  /** Rows in sight that have changed since they were painted. */
  readonly #pending = new Set<Row>();
  readonly #observer: IntersectionObserver;
  readonly #ended = new AbortController();
  #order: Order = { column: 'symbol', descending: false };
  #search = '';
  #shown: Row[] = [];
  #focused: Row | null = null;
  #arrangedAt = 0;
  #sampledAt = 0;
  #unordered = false;
  #colours = { up: '', down: '', flat: '' };

  constructor(options: BoardOptions) {
    this.#options = options;
    this.#observer = new IntersectionObserver((entries) => this.#sighted(entries), { root: options.scroller, rootMargin: '80px' });
    const { signal } = this.#ended;
    options.body.addEventListener('keydown', (event) => this.#key(event), { signal });
    options.body.addEventListener('focusin', (event) => this.#moved(event.target), { signal });
    const recolour = () => this.#recolour();
    document.addEventListener('themechange', recolour, { signal });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', recolour, { signal });
    recolour();
  }

  /** Takes what changed and shows what of it is in sight; called once per frame. */
  apply(changed: ReadonlyMap<string, Quote>, now: number) {
    for (const [symbol, quote] of changed) {
      const row = this.#rows.get(symbol) ?? this.#add(symbol, quote);
      const moved = Math.sign(quote.last - row.quote.last) as -1 | 0 | 1;
      if (moved !== 0) row.direction = moved;
      row.quote = quote;
      if (row.first === 0) row.first = quote.last;
      row.change = row.first > 0 ? quote.last / row.first - 1 : 0;
      row.dirty = true;
      row.moved ||= moved !== 0;
      if (row.seen) this.#pending.add(row);
    }
    this.#unordered ||= changed.size > 0 && this.#order.column !== 'symbol';
    this.tick(now);
  }

  /** Takes a symbol out that is traded no more. */
  remove(symbol: string) {
    if (this.#rows.delete(symbol)) this.#unordered = true;
  }

  /** What is due without any change: lights that go out, lines that go on, an order that is stale. */
  tick(now: number) {
    for (const row of this.#pending) {
      if (row.moved) this.#light(row, now);
      row.moved = false;
      this.#paint(row);
    }
    this.#pending.clear();
    for (const row of this.#lit) {
      if (row.litUntil > now) continue;
      this.#lit.delete(row);
      delete row.cells.last.dataset['lit'];
    }
    if (this.#unordered && now - this.#arrangedAt >= ARRANGE_MS) this.#arrange(now);
    if (now - this.#sampledAt >= SAMPLE_MS) this.#sample(now);
  }

  sort(order: Order, now: number) {
    this.#order = order;
    this.#arrange(now);
  }

  filter(search: string, now: number) {
    this.#search = search.trim();
    this.#arrange(now);
  }

  end() {
    this.#ended.abort();
    this.#observer.disconnect();
    this.#options.body.replaceChildren();
    this.#rows.clear();
  }

  #add(symbol: string, quote: Quote): Row {
    const element = document.createElement('tr');
    element.setAttribute('role', 'row');
    element.tabIndex = -1;
    const texts = {} as Row['texts'];
    const cells = {} as Row['cells'];
    for (const name of CELLS) {
      const cell = document.createElement(name === 'symbol' ? 'th' : 'td');
      cell.setAttribute('role', name === 'symbol' ? 'rowheader' : 'cell');
      cell.className = name;
      texts[name] = cell.appendChild(document.createTextNode(name === 'symbol' ? symbol : ''));
      cells[name] = cell;
      element.append(cell);
    }
    const spark = new Sparkline();
    const last = document.createElement('td');
    last.setAttribute('role', 'cell');
    last.append(spark.canvas);
    element.append(last);
    const row: Row = {
      symbol, quote, change: 0, element, texts, cells, spark, first: quote.last,
      painted: null, direction: 0, litUntil: 0, moved: false, seen: false, dirty: true,
    };
    this.#rows.set(symbol, row);
    this.#byElement.set(element, row);
    this.#unordered = true;
    // Many come at once with the first snapshots: they are put in place together.
    this.#arrangedAt = Math.min(this.#arrangedAt, performance.now() - ARRANGE_MS + 50);
    return row;
  }

  /** Sets the texts that differ from what is there. */
  #paint(row: Row) {
    const { quote, painted, texts } = row;
    row.dirty = false;
    if (painted?.last !== quote.last || painted === null) {
      texts.last.data = price(quote.last);
      const words = change(row.change);
      if (texts.change.data !== words) {
        texts.change.data = words;
        row.cells.change.dataset['sign'] = row.change > 0.00005 ? 'up' : row.change < -0.00005 ? 'down' : '';
      }
      const direction = row.direction > 0 ? 'up' : row.direction < 0 ? 'down' : '';
      if (row.cells.last.dataset['sign'] !== direction) row.cells.last.dataset['sign'] = direction;
    }
    if (painted?.bid !== quote.bid) texts.bid.data = price(quote.bid);
    if (painted?.ask !== quote.ask) texts.ask.data = price(quote.ask);
    if (painted?.bidSize !== quote.bidSize) texts.bidSize.data = size(quote.bidSize);
    if (painted?.askSize !== quote.askSize) texts.askSize.data = size(quote.askSize);
    if (painted?.volume !== quote.volume) texts.volume.data = size(quote.volume);
    row.painted = quote;
  }

  #light(row: Row, now: number) {
    if (!this.#lit.has(row)) row.cells.last.dataset['lit'] = '';
    row.litUntil = now + LIT_MS;
    this.#lit.add(row);
  }

  /** Puts the rows in order; a row that stands right is not touched. */
  #arrange(now: number) {
    this.#arrangedAt = now;
    this.#unordered = false;
    const rows = [...this.#rows.values()].filter(({ symbol }) => matches(symbol, this.#search)).sort(compare(this.#order));
    const same = rows.length === this.#shown.length && rows.every((row, index) => row === this.#shown[index]);
    this.#options.counted(rows.length, this.#rows.size);
    if (same) return;
    const { body } = this.#options;
    const kept = new Set(rows);
    for (const row of this.#shown) {
      if (kept.has(row)) continue;
      this.#observer.unobserve(row.element);
      row.seen = false;
      this.#pending.delete(row);
      row.element.remove();
    }
    const active = document.activeElement;
    let next = body.firstElementChild;
    for (const row of rows) {
      if (row.element === next) {
        next = next.nextElementSibling;
        continue;
      }
      body.insertBefore(row.element, next);
      this.#observer.observe(row.element);
    }
    this.#shown = rows;
    if (!this.#focused || !kept.has(this.#focused)) this.#focus(rows[0] ?? null, false);
    // Moving an element takes the focus from it.
    else if (active === this.#focused.element && document.activeElement !== active) this.#focused.element.focus({ preventScroll: true });
  }

  #sighted(entries: IntersectionObserverEntry[]) {
    for (const { target, isIntersecting } of entries) {
      const row = this.#byElement.get(target);
      if (!row) continue;
      row.seen = isIntersecting;
      if (!isIntersecting) continue;
      if (row.dirty) this.#paint(row);
      row.spark.draw(this.#colour(row), devicePixelRatio);
    }
  }

  #sample(now: number) {
    this.#sampledAt = now;
    for (const row of this.#rows.values()) {
      row.spark.push(row.quote.last);
      if (row.seen) row.spark.draw(this.#colour(row), devicePixelRatio);
    }
  }

  #colour({ change: share }: Row): string {
    return share > 0.00005 ? this.#colours.up : share < -0.00005 ? this.#colours.down : this.#colours.flat;
  }

  /** Colours of the theme, as the canvas wants them. */
  #recolour() {
    const probe = document.createElement('span');
    document.body.append(probe);
    const of = (name: string) => {
      probe.style.color = `var(${name})`;
      return getComputedStyle(probe).color;
    };
    this.#colours = { up: of('--up'), down: of('--down'), flat: of('--quiet') };
    probe.remove();
    for (const row of this.#rows.values()) if (row.seen) row.spark.draw(this.#colour(row), devicePixelRatio);
  }

  #moved(target: EventTarget | null) {
    const row = target instanceof Element ? this.#byElement.get(target) : undefined;
    if (row && row !== this.#focused) this.#focus(row, false);
  }

  /** One row can be reached with Tab, the others from it with the arrows. */
  #focus(row: Row | null, really: boolean) {
    if (this.#focused) this.#focused.element.tabIndex = -1;
    this.#focused = row;
    if (!row) return;
    row.element.tabIndex = 0;
    if (really) {
      row.element.focus();
      row.element.scrollIntoView({ block: 'nearest' });
    }
  }

  #key(event: KeyboardEvent) {
    if (!this.#focused || event.altKey || event.ctrlKey || event.metaKey) return;
    const at = this.#shown.indexOf(this.#focused);
    const last = this.#shown.length - 1;
    const page = Math.max(1, Math.floor(this.#options.scroller.clientHeight / this.#focused.element.offsetHeight) - 2);
    const steps: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: last };
    const to = steps[event.key];
    if (to !== undefined) {
      event.preventDefault();
      this.#focus(this.#shown[Math.max(0, Math.min(last, to))] ?? null, true);
    } else if (event.key === 'Enter') {
      const { symbol, quote, change: share } = this.#focused;
      this.#options.said(`${symbol}: last ${price(quote.last)}, ${change(share)}, bid ${price(quote.bid)}, ask ${price(quote.ask)}, volume ${size(quote.volume)}`);
    }
  }
}
