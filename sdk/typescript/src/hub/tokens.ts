// Tokens are asked of one tab; of the next one when the answer is late or is not a token.

import type { Clock } from '../clock.js';
import type { TokenContext } from '../messages.js';
import { Unauthorized } from '../upstream.js';
import type { Tab } from './tab.js';

/** How long one tab is waited for before another is asked as well, in milliseconds. */
export const TURN_MS = 1000;
/** How long an answer of any tab is waited for, in milliseconds. */
export const DEADLINE_MS = 10_000;

interface Question {
  context: TokenContext;
  asked: Set<string>;
  /** Whose answer is still awaited. */
  open: Set<string>;
  /** What the last tab that could not said of it, with a colon before. */
  why: string;
  next(): void;
  resolve(token: string): void;
  reject(error: Error): void;
}

export class Tokens {
  readonly #clock: Clock;
  readonly #tabs: () => Tab[];
  readonly #questions = new Map<number, Question>();
  #count = 0;

  constructor(clock: Clock, tabs: () => Tab[]) {
    this.#clock = clock;
    this.#tabs = tabs;
  }

  /** @throws {Unauthorized} when a tab said so */
  ask(context: TokenContext): Promise<string> {
    const id = (this.#count += 1);
    return new Promise((resolve, reject) => {
      let cancel = (): void => {};
      const overall = this.#clock.after(DEADLINE_MS, () => question.reject(new Error('no tab gave a token in time')));
      const settle = (): void => {
        cancel();
        overall();
        this.#questions.delete(id);
      };
      const question: Question = {
        context,
        why: '',
        asked: new Set(),
        open: new Set(),
        next: () => {
          cancel();
          const tab = this.#candidate(question.asked);
          if (tab === undefined) {
            if (question.open.size === 0) question.reject(new Error(`no tab gave a token${question.why}`));
            return;
          }
          question.asked.add(tab.id);
          question.open.add(tab.id);
          tab.port.post({ t: 'token', id, context });
          cancel = this.#clock.after(TURN_MS, question.next);
        },
        resolve: (token) => (settle(), resolve(token)),
        reject: (error) => (settle(), reject(error)),
      };
      this.#questions.set(id, question);
      question.next();
    });
  }

  given(id: number, token: string): void {
    this.#questions.get(id)?.resolve(token);
  }

  refused(tab: Tab, id: number, message: string, unauthorized: boolean): void {
    const question = this.#questions.get(id);
    if (question === undefined) return;
    if (unauthorized) return question.reject(new Unauthorized(message));
    question.why = `: ${message}`;
    if (question.open.delete(tab.id)) question.next();
  }

  /** The tab will not answer any more. */
  left(tab: Tab): void {
    for (const question of [...this.#questions.values()]) {
      if (question.open.delete(tab.id)) question.next();
    }
  }

  /** Whoever is looked at answers soonest: hidden tabs are slowed down or frozen by browsers. */
  #candidate(asked: Set<string>): Tab | undefined {
    return this.#tabs()
      .filter((tab) => tab.givesTokens && !asked.has(tab.id))
      .sort((a, b) => Number(b.visible) - Number(a.visible) || b.heard - a.heard)[0];
  }
}
