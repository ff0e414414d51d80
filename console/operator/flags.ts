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

/** What to send to set one flag and leave the others; refused if they have changed since `version`. */
export function setting(flag: Flag, version: number): Change {
  return { flags: { [flag.name]: value(flag) }, version };
}

/** What to send to take one flag away and leave the others. */
export function removal(name: string, version: number): Change {
  return { flags: { [name]: null }, version };
}

/** A change of some flags; `null` takes one away. */
export interface Change {
  flags: Record<string, FlagValue | null>;
  version: number;
}

/** Why a name can't be a flag's; `null` if it can. */
export function fault(name: string, { flags }: Flags): string | null {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(name)) return 'A name has letters, digits, dots, dashes and underscores, 128 at most.';
  return name in flags ? 'There is a flag of this name.' : null;
}

/** The state in force, which a 409 comes with. */
export function present(body: unknown): Flags | null {
  const found = body as Partial<Flags> | undefined;
  const isState = typeof found?.version === 'number' && typeof found.flags === 'object' && found.flags !== null;
  return isState ? { flags: found.flags as Flags['flags'], version: found.version as number } : null;
}
