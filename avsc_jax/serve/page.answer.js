// Shows an answer: scenes, the clip, its timeline, and why.

import { add, at, percent, words } from './page.dom.js';
import { showTimeline, withoutPlayer } from './page.timeline.js';

let links = [];

function link(blob) {
  links.push(URL.createObjectURL(blob));
  return links.at(-1);
}

// `file` is null for an answer from before the page was loaded again.
export function show({ file, name, answer }) {
  links.splice(0).forEach((each) => URL.revokeObjectURL(each));
  at('name').textContent = name;
  at('scenes').replaceChildren();
  for (const { scene, p } of answer.scenes) {
    const row = add(at('scenes'), 'li');
    add(row, 'b', words(scene));
    row.className = answer.labels?.includes(scene) ? 'true' : '';
    add(row, 'i').style.setProperty('--share', `${100 * p}%`);
    add(row, 'span', percent(p));
  }
  at('notes').replaceChildren();
  answer.notes.forEach((note) => add(at('notes'), 'li', note));
  showTimeline(answer.timeline, preview(file));
  const html = answer.explanation_html;
  at('reasons').hidden = !html;
  at('why').srcdoc = html;
  if (html) at('keep').href = link(new Blob([html], { type: 'text/html' }));
  at('found').hidden = false;
}

// The player of the clip; null where there is none.
function preview(file) {
  const kind = file && { video: 'video', audio: 'audio', image: 'img' }[file.type.split('/')[0]];
  at('preview').replaceChildren();
  at('preview').hidden = !kind;
  if (!kind) return null;
  const shown = add(at('preview'), kind);
  shown.onerror = () => {  // a format that the browser cannot play
    at('preview').hidden = true;
    withoutPlayer();
  };
  if (kind === 'img') shown.alt = 'the picture that was sent';
  else shown.controls = true;
  shown.src = link(file);
  return kind === 'img' ? null : shown;
}

function fit() {
  const page = at('why').contentDocument;
  if (page && page.body) at('why').style.height = `${page.body.scrollHeight}px`;
}

at('why').addEventListener('load', fit);
addEventListener('resize', fit);
