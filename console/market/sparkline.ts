/** A line of the last prices, on a canvas of its own. */

/** How many prices a line has; one is taken every half second. */
export const POINTS = 60;
export const SAMPLE_MS = 500;

const [WIDTH, HEIGHT, EDGE] = [96, 18, 2];

export class Sparkline {
  readonly canvas = document.createElement('canvas');
  readonly #prices = new Float64Array(POINTS);
  #count = 0;
  #drawn = '';

  constructor() {
    this.canvas.setAttribute('aria-hidden', 'true');
    this.canvas.className = 'spark';
  }

  /** Takes a price, and forgets the one of half a minute ago. */
  push(price: number) {
    if (!(price > 0)) return;
    if (this.#count === POINTS) this.#prices.copyWithin(0, 1);
    else this.#count += 1;
    this.#prices[this.#count - 1] = price;
  }

  /** Draws the line, unless it is drawn. */
  draw(colour: string, scale: number) {
    const context = this.canvas.getContext('2d');
    if (!context || this.#count < 2) return;
    const prices = this.#prices.subarray(0, this.#count);
    let [low, high] = [Infinity, -Infinity];
    for (const price of prices) {
      if (price < low) low = price;
      if (price > high) high = price;
    }
    const sign = `${colour} ${scale} ${this.#count} ${prices[0]} ${prices[this.#count - 1]} ${low} ${high}`;
    if (sign === this.#drawn) return;
    this.#drawn = sign;
    if (this.canvas.width !== WIDTH * scale) {
      this.canvas.width = WIDTH * scale;
      this.canvas.height = HEIGHT * scale;
    }
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, WIDTH, HEIGHT);
    context.beginPath();
    const span = high - low || 1;
    const step = WIDTH / (POINTS - 1);
    const from = WIDTH - (this.#count - 1) * step;
    for (let index = 0; index < this.#count; index += 1) {
      const y = HEIGHT - EDGE - (((prices[index] ?? low) - low) / span) * (HEIGHT - 2 * EDGE);
      if (index === 0) context.moveTo(from, y);
      else context.lineTo(from + index * step, y);
    }
    context.strokeStyle = colour;
    context.lineWidth = 1.25;
    context.lineJoin = 'round';
    context.stroke();
  }
}
