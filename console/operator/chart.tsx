import { type PointerEvent, useId, useState } from 'react';

import { moment } from '../design/format';
import { ceiling, path, span } from './series';

export interface Line {
  name: string;
  values: number[];
  tone?: 'tide' | 'quiet' | 'down';
}

const [WIDTH, HEIGHT] = [480, 96];

/** A chart of the last minutes, with its latest value in words. */
export function Chart({ title, lines, times, unit, least = 1, scale = 1, limit, note }: {
  title: string;
  lines: Line[];
  times: number[];
  unit: (value: number) => string;
  /** What the axis reaches at least. */
  least?: number;
  /** What its numbers are counted in, so that the axis ends at a round one. */
  scale?: number;
  /** A line that should not be crossed. */
  limit?: number | undefined;
  note?: string | undefined;
}) {
  const id = useId();
  const [at, setAt] = useState<number>();
  const top = ceiling(lines.flatMap(({ values }) => values.map((value) => value / scale)), least / scale) * scale;
  const count = times.length;
  const shown = span(count);
  const index = at === undefined ? count - 1 : at;
  const point = (event: PointerEvent<SVGSVGElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    const place = Math.round(((event.clientX - box.left) / box.width) * (shown - 1)) - (shown - count);
    setAt(count === 0 ? undefined : Math.max(0, Math.min(count - 1, place)));
  };
  const x = WIDTH - (count - 1 - index) * (WIDTH / (shown - 1));
  const range = lines.map(({ name, values }) => `${name}: now ${unit(values.at(-1) ?? 0)}, at most ${unit(Math.max(0, ...values))}`);
  return (
    <figure className="chart" aria-labelledby={id}>
      <figcaption id={id}>
        <span>{title}</span>
        <span className="values">
          {lines.map(({ name, values, tone }) => (
            <span key={name} data-tone={tone ?? 'tide'}>
              {lines.length > 1 && <small>{name}</small>} <b>{count === 0 ? '–' : unit(values[index] ?? 0)}</b>
            </span>
          ))}
        </span>
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`${title}. ${range.join('; ')}`} onPointerMove={point} onPointerLeave={() => setAt(undefined)}>
        <line x1="0" x2={WIDTH} y1={HEIGHT / 2} y2={HEIGHT / 2} className="rule" />
        {limit !== undefined && limit <= top && <line x1="0" x2={WIDTH} y1={HEIGHT - (limit / top) * HEIGHT} y2={HEIGHT - (limit / top) * HEIGHT} className="limit" />}
        {lines.map(({ name, values, tone }) => {
          const drawn = path(values, top, WIDTH, HEIGHT, shown);
          const left = WIDTH - (values.length - 1) * (WIDTH / (shown - 1));
          return (
            <g key={name} data-tone={tone ?? 'tide'}>
              {lines.length === 1 && values.length > 1 && <path d={`${drawn}L${WIDTH} ${HEIGHT}L${left.toFixed(1)} ${HEIGHT}Z`} className="area" />}
              <path d={drawn} className="line" />
            </g>
          );
        })}
        {at !== undefined && <line x1={x} x2={x} y1="0" y2={HEIGHT} className="cursor" />}
      </svg>
      <p className="axis">
        <span>{at === undefined ? (note ?? (shown > 60 ? `last ${Math.ceil(shown / 60)} minutes` : 'last minute')) : moment(times[index])}</span>
        <span>0 to {unit(top)}</span>
      </p>
    </figure>
  );
}
