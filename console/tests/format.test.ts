import { describe, expect, test } from 'vitest';

import { bytes, duration, millis, percent, short, whole } from '../design/format';
import { change, price, size } from '../market/quote';

describe('numbers', () => {
  test('are written short, with a dash for what is not known', () => {
    expect([whole(1234567), whole(null), whole(Number.NaN)]).toEqual(['1,234,567', '–', '–']);
    expect([short(0), short(7), short(0.25), short(999), short(1_000), short(1_234), short(45_600_000)]).toEqual(['0', '7', '0.25', '999', '1.00k', '1.23k', '45.6M']);
    expect([bytes(512), bytes(1536), bytes(3.2 * 1024 ** 3), bytes(undefined)]).toEqual(['512 B', '1.5 KiB', '3.2 GiB', '–']);
    expect([percent(0.123), percent(Number.POSITIVE_INFINITY)]).toEqual(['12.3 %', '–']);
  });

  test('of time take the two units that matter', () => {
    expect([duration(45.9), duration(723), duration(18_750), duration(273_600), duration(-1)]).toEqual(['45 s', '12 min 3 s', '5 h 12 min', '3 d 4 h', '0 s']);
    expect([millis(0.83), millis(12.4), millis(1_420)]).toEqual(['0.8 ms', '12 ms', '1.4 s']);
  });

  test('of quotes keep their sign and width', () => {
    expect([price(101.5), price(0)]).toEqual(['101.50', '–']);
    expect([change(0.0042), change(-0.0042), change(0.00001), change(-0.00001)]).toEqual(['+0.42 %', '−0.42 %', '0.00 %', '0.00 %']);
    expect([size(812), size(12_400), size(3_510_000), size(2e9)]).toEqual(['812', '12.4k', '3.51M', '2.00G']);
  });
});
