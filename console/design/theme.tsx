import { useState } from 'react';

/** What the switch says; `auto` is what the system says. */
export type Theme = 'auto' | 'light' | 'dark';

const KEY = 'tidegate.theme';
const THEMES: Theme[] = ['auto', 'light', 'dark'];

function stored(): Theme {
  try {
    const found = localStorage.getItem(KEY);
    return THEMES.find((theme) => theme === found) ?? 'auto';
  } catch {
    // Storage may be forbidden; then the choice lasts as long as the page.
    return 'auto';
  }
}

function apply(theme: Theme) {
  document.documentElement.dataset['theme'] = theme;
  document.dispatchEvent(new Event('themechange'));
}

/** Puts the stored choice into force; called before the first render. */
export function startTheme() {
  apply(stored());
}

export function ThemeSwitch() {
  const [theme, setTheme] = useState(stored);
  const choose = (next: Theme) => {
    setTheme(next);
    apply(next);
    try {
      localStorage.setItem(KEY, next);
    } catch {
      // As above.
    }
  };
  return (
    <div className="themes" role="group" aria-label="Colours">
      {THEMES.map((each) => (
        <button key={each} type="button" aria-pressed={each === theme} onClick={() => choose(each)}>
          {each === 'auto' ? 'Auto' : each === 'light' ? 'Light' : 'Dark'}
        </button>
      ))}
    </div>
  );
}
