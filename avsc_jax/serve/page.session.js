// The last answers of this tab. They are in the browser alone: whole until the page is loaded
// again, without clips and explanations until the tab is closed.

import { show } from './page.answer.js';
import { add, at, headline } from './page.dom.js';

const MOST = 10;
const KEY = 'answers';
let kept = [];
let system = '';  // answers of another system are not shown
let shown = null;

export function remember(one) {
  kept = [one, ...kept].slice(0, MOST);
  store();
  open(one);
}

export function restore(classes) {
  system = JSON.stringify(classes);
  try {
    const stored = JSON.parse(sessionStorage.getItem(KEY));
    if (stored && stored.system === system) kept = [...kept, ...stored.answers].slice(0, MOST);
  } catch {
    kept = [...kept];  // what is stored is not ours
  }
  list();
}

function store() {
  const answers = kept.map((one) => ({ ...one, file: null, answer: { ...one.answer, explanation_html: '' } }));
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ system, answers }));
  } catch {
    sessionStorage.removeItem(KEY);  // there is no room
  }
}

function open(one) {
  shown = one;
  show(one);
  list();
}

function list() {
  at('earlier').hidden = !kept.length;
  at('answers').replaceChildren();
  for (const one of kept) {
    const button = add(add(at('answers'), 'li'), 'button', `${one.name}: ${headline(one.answer)}`);
    button.title = `${one.name}, ${new Date(one.at).toLocaleTimeString()}`;
    button.setAttribute('aria-current', one === shown);
    button.onclick = () => open(one);
  }
}

at('clear').addEventListener('click', () => {
  kept = [];
  shown = null;
  sessionStorage.removeItem(KEY);
  at('found').hidden = true;
  at('state').textContent = 'The answers are deleted.';
  list();
  at('file').focus();
});
