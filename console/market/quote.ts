/** What is known of a symbol. Prices are plain numbers; 0 is a price nobody has named yet. */
export interface Quote {
  symbol: string;
  last: number;
  bid: number;
  ask: number;
  bidSize: number;
  askSize: number;
  volume: number;
}

/** A price with two digits; a dash for none. */
export function price(value: number): string {
  return value > 0 ? value.toFixed(2) : '–';
}

/** A share as signed percent: `+0.42 %`. */
export function change(share: number): string {
  const text = (share * 100).toFixed(2);
  return text === '0.00' || text === '-0.00' ? '0.00 %' : `${share > 0 ? '+' : '−'}${text.replace('-', '')} %`;
}

/** A size in thousands: `812`, `12.4k`, `3.51M`. */
export function size(value: number): string {
  if (value < 10_000) return String(value);
  if (value < 1e6) return `${(value / 1e3).toFixed(1)}k`;
  return value < 1e9 ? `${(value / 1e6).toFixed(2)}M` : `${(value / 1e9).toFixed(2)}G`;
}
