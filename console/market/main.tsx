import '../design/base.css';
import './market.css';

import { createRoot } from 'react-dom/client';

import { startTheme } from '../design/theme';
import { Feed } from './feed';
import { groupsOf } from './groups';
import { installHook } from './hook';
import { Screen } from './screen';

startTheme();
const feed = new Feed(groupsOf(location.search));
installHook(feed);
const root = document.getElementById('root');
if (root) createRoot(root).render(<Screen feed={feed} />);
