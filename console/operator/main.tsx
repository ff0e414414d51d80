import '../design/base.css';
import './console.css';

import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import { startTheme } from '../design/theme';
import { App } from './app';

startTheme();
const root = document.getElementById('root');
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
