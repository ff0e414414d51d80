/** Most groups that one page follows. */
export const GROUPS_MAX = 100;

/** Groups to show: `?groups=g00,g07`, or `?groups=20` for the first twenty; ten if nothing is said. */
export function groupsOf(search: string): string[] {
  const asked = new URLSearchParams(search).get('groups') ?? '';
  const isCount = /^\d{1,3}$/.test(asked);
  const named = isCount ? [] : asked.split(',').filter((name) => /^[A-Za-z0-9_-]+$/.test(name));
  if (named.length > 0) return [...new Set(named)].slice(0, GROUPS_MAX);
  const count = isCount ? Number(asked) : 10;
  return Array.from({ length: Math.max(1, Math.min(count, GROUPS_MAX)) }, (_, index) => `g${String(index).padStart(2, '0')}`);
}
