// Sends a clip to the program that serves this page, and tells how far it is. All text is set as
// text, and the explanation is in a frame where no script runs: file names may hold anything.

import { show } from './page.answer.js';
import { at, add, headline, words } from './page.dom.js';
import { remember, restore } from './page.session.js';

const GONE = 'The program does not answer; is it still running?';
const READY_MADE = 'The ready-made system';
const POLL_MS = 500;
const MOST_NAMED = 20;
let about = null;
let running = null;  // the request of the clip that is sent or tagged

const ask = async (path) => (await fetch(path)).json();
const some = (count, one) => `${count.toLocaleString('en')} ${one}${count === 1 ? '' : 's'}`;

function sense(capital = true) {
  const verbs = { sound: 'listening', picture: 'looking' };
  const text = ['picture', 'sound'].filter((kind) => about.takes.includes(kind))
    .map((kind) => verbs[kind]).join(' and ');
  return capital ? text[0].toUpperCase() + text.slice(1) : text;
}

function timeLeft(s) {
  if (s === null || s === undefined) return '';
  if (s < 1) return ', a moment left';
  return `, about ${s < 90 ? `${Math.ceil(s)} s` : `${Math.ceil(s / 60)} min`} left`;
}

function told(state) {
  const left = timeLeft(state.left_s);
  if (state.state === 'loading') return 'Loading the model ...';
  if (state.state === 'compiling') return 'Compiling ...';
  if (state.ahead) return `Waiting for ${some(state.ahead, 'clip')} ...`;
  if (state.is_compiling) return 'Compiling ... (the first clip of a kind takes longer)';
  if (state.step === 'tagging' && state.total) {
    return `${sense()}: window ${state.done + 1} of ${state.total}${left}`;
  }
  if (state.step === 'explaining') return `Explaining: window ${state.done + 1} of ${state.total}${left}`;
  return 'Opening ...';
}

function report(text, share = null) {
  if (at('state').textContent !== text) at('state').textContent = text;
  if (share === null) at('bar').removeAttribute('value');
  else at('bar').value = share;
}

function fail(text) {
  report('');
  at('error').textContent = text;
  at('error').hidden = false;
}

function send(file, key) {
  const form = new FormData();
  form.append('file', file, file.name);
  const request = new XMLHttpRequest();  // fetch does not tell how much is sent
  request.open('POST', `/api/tag?key=${key}`);
  request.responseType = 'json';
  const answer = new Promise((done, failed) => {
    request.upload.onprogress = ({ loaded, total }) => {
      report(`Reading ${Math.round((100 * loaded) / total)} %`, loaded / total);
    };
    request.onload = () => {
      const found = request.response || {};
      return request.status === 200 ? done(found) : failed(new Error(found.error || `error ${request.status}`));
    };
    request.onerror = () => failed(new Error(GONE));
    request.onabort = () => done(null);
    request.send(form);
  });
  return { request, answer };
}

async function follow(request, key) {
  const state = await ask(`/api/progress?key=${key}`);
  if (running !== request || !state.step || state.step === 'uploading') return;
  const share = state.total && state.state === 'ready' ? state.done / state.total : null;
  report(told(state), share);
}

// Letters that nobody guesses; randomUUID is only there on pages of this machine.
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, '0')).join('');
}

async function tag(file) {
  if (running) return;
  at('error').hidden = at('found').hidden = true;
  if (file.size > about.max_mb * 2 ** 20) {
    fail(`${file.name} has ${Math.ceil(file.size / 2 ** 20)} MB; up to ${about.max_mb} MB are accepted.`);
    return;
  }
  const key = newKey();
  const { request, answer } = send(file, key);
  running = request;
  at('working').hidden = false;
  report(`Reading ${file.name}`);
  const timer = setInterval(() => follow(request, key).catch(() => {}), POLL_MS);
  try {
    const found = await answer;
    if (found) {
      report(`Done in ${found.seconds.toFixed(1)} s: ${headline(found)}`);
      remember({ file, name: file.name, answer: found, at: Date.now() });
    } else {
      report('Cancelled');
    }
  } catch (error) {
    fail(error.message);
  } finally {
    running = null;
    at('working').hidden = true;
    clearInterval(timer);
  }
}

function introduce() {
  const areTags = about.kind === 'independent';
  const names = about.classes.length <= MOST_NAMED ? `: ${about.classes.map(words).join(', ')}` : '';
  if (areTags) at('title').textContent = 'What is in the clip?';
  const known = some(about.classes.length, areTags ? 'tag' : 'scene');
  at('about').textContent = `${about.title === 'tags' ? READY_MADE : about.title} knows ${known} by ${sense(false)}${names}.`;
  for (const warning of about.warnings) add(at('warnings'), 'p', warning);
  at('warnings').className = about.warnings.length ? 'warning' : '';
}

async function wait() {
  const facts = await ask('/api/about');
  const isKnown = about && about.takes;
  about = facts;
  if (facts.takes && !isKnown) {
    introduce();
    restore(facts.classes);
  }
  if (facts.state === 'loading') at('about').textContent = 'Loading the model ... You can send a clip already.';
  if (facts.state === 'compiling' && !running) at('state').textContent = 'Compiling ... You can send a clip already.';
  if (facts.state === 'ready') {
    if (!running && at('state').textContent.startsWith('Compiling')) report('');
    return;
  }
  setTimeout(() => wait().catch(() => fail(GONE)), POLL_MS);
}

for (const [name, isOver] of [['dragover', true], ['dragleave', false], ['drop', false]]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    at('drop').classList.toggle('over', isOver);
  });
}
document.addEventListener('drop', (event) => {
  if (about && event.dataTransfer.files.length) tag(event.dataTransfer.files[0]);
});
at('file').addEventListener('change', () => {
  if (about && at('file').files.length) tag(at('file').files[0]);
  at('file').value = '';  // so that the same clip can be chosen again
});
at('cancel').addEventListener('click', () => running && running.abort());
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && running) running.abort();
});

wait().catch(() => fail(GONE));
