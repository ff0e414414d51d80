/** What can be done to feature flags, as functions of what is known. */

import type { Flags, FlagValue } from './shapes';

export interface Flag {
  name: string;
  enabled: boolean;
  /** Share of the users it is on for, 0 to 100, while it is enabled. */
  percentage: number;
}

/** Flags in the order of their names. */
export function list({ flags }: Flags): Flag[] {
  return Object.entries(flags)
    .map(([name, value]) => ({ name, ...read(value) }))
    .sort((one, other) => (one.name < other.name ? -1 : one.name > other.name ? 1 : 0));
}

function read(value: FlagValue): Omit<Flag, 'name'> {
  if (typeof value === 'boolean') return { enabled: value, percentage: 100 };
  return { enabled: value.enabled, percentage: value.percentage ?? 100 };
}

/** A flag as the API takes it: a bare switch where that says all. */
export function value({ enabled, percentage }: Omit<Flag, 'name'>): FlagValue {
  return percentage >= 100 ? enabled : { enabled, percentage };
}

/** What to send to set one flag and leave the others. */
export function setting(flag: Flag, version: number): Flags {
  return { flags: { [flag.name]: value(flag) }, version };
}

/** What to send to take a flag away: all others. */
export function without(name: string, { flags, version }: Flags): Flags {
  return { flags: Object.fromEntries(Object.entries(flags).filter(([each]) => each !== name)), version };
}

/** Why a name can't be a flag's; `null` if it can. */
export function fault(name: string, { flags }: Flags): string | null {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(name)) return 'A name has letters, digits, dots, dashes and underscores, 128 at most.';
  return name in flags ? 'There is a flag of this name.' : null;
}

/** The state in force that a 409 came with, if it did. */
export function present(body: unknown): Flags | null {
  const found = body as Partial<Flags> & { present?: Flags; current?: Flags } | undefined;
  const state = found?.present ?? found?.current ?? found;
  return state && typeof state.version === 'number' && typeof state.flags === 'object' ? (state as Flags) : null;
}
