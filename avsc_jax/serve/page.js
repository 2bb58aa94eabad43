'use strict';
// Sends a clip to the program that serves this page and shows what it answers. All text is set
// as text, and the explanation is in a frame where no script runs: file names may hold anything.

const at = (id) => document.getElementById(id);
let about = null;
let player = null;
let links = [];
let busy = false;

function add(parent, tag, text = '') {
  const child = document.createElement(tag);
  child.textContent = text;
  parent.append(child);
  return child;
}

function link(blob) {
  links.push(URL.createObjectURL(blob));
  return links.at(-1);
}

const words = (scene) => scene.replaceAll('_', ' ');
const clock = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(0).padStart(2, '0')}`;
const color = (scene) => `hsl(${(360 * about.classes.indexOf(scene)) / about.classes.length} 45% 36%)`;

function fail(text) {
  at('state').textContent = '';
  at('error').textContent = text;
  at('error').hidden = false;
}

function post(file) {
  const form = new FormData();
  form.append('file', file, file.name);
  const request = new XMLHttpRequest();  // fetch does not tell how much is sent
  request.open('POST', '/api/tag');
  request.responseType = 'json';
  return new Promise((done, failed) => {
    request.upload.onprogress = (event) => {
      at('state').textContent = `Reading ${Math.round((100 * event.loaded) / event.total)} %`;
    };
    request.onload = () => {
      const answer = request.response || {};
      return request.status === 200 ? done(answer) : failed(new Error(answer.error || `error ${request.status}`));
    };
    request.onerror = () => failed(new Error('The program does not answer; is it still running?'));
    request.send(form);
  });
}

async function showProgress() {
  const state = await (await fetch('/api/progress')).json();
  if (busy && state.now) at('state').textContent = state.now;
}

async function tag(file) {
  if (busy || !about) return;
  at('error').hidden = at('found').hidden = true;
  if (file.size > about.max_mb * 1e6) {
    fail(`${file.name} has ${Math.ceil(file.size / 1e6)} MB; up to ${about.max_mb} MB are accepted.`);
    return;
  }
  busy = true;
  at('state').textContent = `Reading ${file.name}`;
  const timer = setInterval(() => showProgress().catch(() => {}), 500);
  try {
    show(file, await post(file));
  } catch (error) {
    fail(error.message);
  } finally {
    busy = false;
    clearInterval(timer);
  }
}

function show(file, answer) {
  links.splice(0).forEach(URL.revokeObjectURL);
  at('state').textContent = `Done in ${answer.seconds.toFixed(1)} s`;
  at('name').textContent = file.name;
  at('scenes').replaceChildren();
  for (const { scene, p } of answer.scenes) {
    const row = add(at('scenes'), 'li');
    add(row, 'span', words(scene));
    add(row, 'meter').value = p;
    add(row, 'span', `${(100 * p).toFixed(1)} %`);
  }
  at('notes').replaceChildren();
  answer.notes.forEach((note) => add(at('notes'), 'li', note));
  preview(file);
  at('timeline').replaceChildren();
  for (const part of answer.timeline) {
    const button = add(add(at('timeline'), 'li'), 'button', words(part.scene));
    add(button, 'small', `${clock(part.start_s)} to ${clock(part.end_s)}`);
    button.style.background = color(part.scene);
    button.onclick = () => {
      if (!player) return;
      player.currentTime = part.start_s;
      player.play().catch(() => {});
    };
  }
  at('why').srcdoc = answer.explanation_html;
  at('keep').href = link(new Blob([answer.explanation_html], { type: 'text/html' }));
  at('found').hidden = false;
}

function preview(file) {
  const kind = { video: 'video', audio: 'audio', image: 'img' }[file.type.split('/')[0]];
  at('preview').replaceChildren();
  at('preview').hidden = !kind;
  at('hint').hidden = kind !== 'video' && kind !== 'audio';
  player = null;
  if (!kind) return;
  const shown = add(at('preview'), kind);
  shown.onerror = () => { at('preview').hidden = true; };  // a format that the browser cannot play
  shown.src = link(file);
  if (kind === 'img') return;
  shown.controls = true;
  player = shown;
}

function fit() {
  const page = at('why').contentDocument;
  if (page && page.body) at('why').style.height = `${page.body.scrollHeight}px`;
}

at('why').addEventListener('load', fit);
addEventListener('resize', fit);
for (const [name, isOver] of [['dragover', true], ['dragleave', false], ['drop', false]]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    at('drop').classList.toggle('over', isOver);
  });
}
document.addEventListener('drop', (event) => {
  if (event.dataTransfer.files.length) tag(event.dataTransfer.files[0]);
});
at('file').addEventListener('change', () => {
  if (at('file').files.length) tag(at('file').files[0]);
  at('file').value = '';  // so that the same clip can be chosen again
});

fetch('/api/about').then((response) => response.json()).then((facts) => {
  about = facts;
  at('about').textContent =
    `${about.title} names ${about.classes.length} scenes by ${about.takes.join(' and ')}: ` +
    `${about.classes.map(words).join(', ')}.`;
  for (const warning of about.warnings) add(at('warnings'), 'p', warning);
  at('warnings').className = about.warnings.length ? 'warning' : '';
}).catch(() => fail('The program does not answer; is it still running?'));
