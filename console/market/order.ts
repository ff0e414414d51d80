/** In which order symbols stand, and which of them. */

import type { Quote } from './quote';

export const COLUMNS = ['symbol', 'last', 'change', 'bidSize', 'bid', 'ask', 'askSize', 'volume'] as const;
export type Column = (typeof COLUMNS)[number];

export interface Order {
  column: Column;
  descending: boolean;
}

/** What a click on a column makes of an order: numbers begin with the largest. */
export function turned(order: Order, column: Column): Order {
  if (order.column === column) return { column, descending: !order.descending };
  return { column, descending: column !== 'symbol' };
}

/** What is sorted: a quote, and how it stands to the first one that was seen. */
export interface Standing {
  symbol: string;
  quote: Quote;
  change: number;
}

/** A comparison; what is equal goes by its symbol, so that nothing jumps about. */
export function compare({ column, descending }: Order): (one: Standing, other: Standing) => number {
  const sign = descending ? -1 : 1;
  return (one, other) => {
    if (column === 'symbol') return sign * bySymbol(one, other);
    const [a, b] = column === 'change' ? [one.change, other.change] : [one.quote[column], other.quote[column]];
    return a === b ? bySymbol(one, other) : sign * (a < b ? -1 : 1);
  };
}

function bySymbol(one: Standing, other: Standing): number {
  return one.symbol < other.symbol ? -1 : one.symbol > other.symbol ? 1 : 0;
}

/** Whether a symbol has all words of the search in it. */
export function matches(symbol: string, search: string): boolean {
  const name = symbol.toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => name.includes(word));
}
