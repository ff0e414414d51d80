/** From a configuration as a tree to lines that can be read and searched. */

export interface Setting {
  key: string;
  value: string;
  masked: boolean;
}

/** What the gateway writes in the place of a secret. */
const MASKS = ['(redacted)', '***', '[redacted]', 'redacted'];

/** Each leaf with the path to it; an empty list or map is a leaf. */
export function settings(tree: unknown, prefix = ''): Setting[] {
  if (Array.isArray(tree)) {
    if (tree.every((each) => typeof each !== 'object' || each === null)) return [leaf(prefix, tree)];
    return tree.flatMap((each, index) => settings(each, `${prefix}[${index}]`));
  }
  if (typeof tree === 'object' && tree !== null && Object.keys(tree).length > 0) {
    return Object.entries(tree).flatMap(([key, value]) => settings(value, prefix === '' ? key : `${prefix}.${key}`));
  }
  return [leaf(prefix, tree)];
}

function leaf(key: string, value: unknown): Setting {
  const masked = typeof value === 'string' && MASKS.includes(value.toLowerCase());
  if (masked) return { key, value: 'set, not shown', masked };
  if (Array.isArray(value)) return { key, value: value.length === 0 ? 'none' : value.map(word).join(', '), masked };
  return { key, value: word(value), masked };
}

function word(value: unknown): string {
  if (value === null || value === undefined) return 'not set';
  if (value === '') return 'empty';
  return typeof value === 'object' ? 'empty' : String(value);
}

/** Those that have every word of the search in their key or value. */
export function matching(all: Setting[], search: string): Setting[] {
  const words = search.toLowerCase().split(/\s+/).filter((each) => each !== '');
  return all.filter(({ key, value }) => {
    const text = `${key} ${value}`.toLowerCase();
    return words.every((each) => text.includes(each));
  });
}

/** Settings by the first part of their key, in the order in which they come; those without parts first, as `general`. */
export function sections(all: Setting[]): [string, Setting[]][] {
  const found = new Map<string, Setting[]>();
  for (const setting of all) {
    const section = /[.[]/.test(setting.key) ? (setting.key.split(/[.[]/, 1)[0] ?? '') : GENERAL;
    found.set(section, [...(found.get(section) ?? []), setting]);
  }
  return [...found].sort(([one], [other]) => Number(other === GENERAL) - Number(one === GENERAL));
}

const GENERAL = 'general';
