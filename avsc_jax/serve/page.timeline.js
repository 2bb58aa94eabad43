// The windows of a clip as a strip that moves with its player. One stop of the Tab key: arrows go
// from window to window, Enter and Space play and pause.

import { add, at, clock, percent, words } from './page.dom.js';

// Told apart by most eyes, on light and on dark; of more scenes, those with less time are grey.
const COLORS = ['#3f8fd2', '#d9822b', '#2a9d78', '#c06aa0', '#8a78d0', '#b8932c', '#4aa3b5', '#c9584f'];
const OTHER = '#8a949e';
const LEAST_HEIGHT = 8;  // percent, so that a window that says little is seen, too

let windows = [];
let bars = [];
let player = null;
let now = 0;

export function showTimeline(timeline, media) {
  player = media;
  windows = timeline.map((window, k) => ({
    ...window, until_s: k + 1 < timeline.length ? timeline[k + 1].start_s : window.end_s,
  }));
  const [first, last] = [windows[0].start_s, windows.at(-1).until_s];
  at('when').hidden = !(last > first);  // a still picture has no time
  if (at('when').hidden) return;
  const shares = sharesOfTime(last - first);
  const colors = new Map(shares.map(([scene], k) => [scene, COLORS[k] || OTHER]));
  bars.forEach((bar) => bar.remove());
  bars = windows.map((window) => {
    const bar = add(at('strip'), 'i');
    bar.style.left = `${(100 * (window.start_s - first)) / (last - first)}%`;
    bar.style.width = `calc(${(100 * (window.until_s - window.start_s)) / (last - first)}% - ${gap()}px)`;
    bar.style.height = `${Math.max(LEAST_HEIGHT, 100 * window.scenes[0].p)}%`;
    bar.style.background = colors.get(window.scene);
    bar.title = said(window);
    return bar;
  });
  at('strip').setAttribute('aria-valuemax', windows.length - 1);
  at('ticks').replaceChildren();
  for (let k = 0; k <= 4; k += 1) add(at('ticks'), 'span', clock(first + ((last - first) * k) / 4));
  at('legend').replaceChildren();
  for (const [scene, share] of shares.slice(0, COLORS.length)) {
    const item = add(at('legend'), 'li');
    add(item, 'i').style.background = colors.get(scene);
    item.append(`${words(scene)} ${Math.round(100 * share)} %`);
  }
  if (shares.length > COLORS.length) {
    const item = add(at('legend'), 'li');
    add(item, 'i').style.background = OTHER;
    item.append(`${shares.length - COLORS.length} others`);
  }
  hint();
  move(0);
  if (!player) return;
  player.addEventListener('timeupdate', follow);
  player.addEventListener('seeking', follow);
  player.addEventListener('play', glide);
}

// A clip that the browser cannot play has a timeline all the same.
export function withoutPlayer() {
  player = null;
  hint();
}

function hint() {
  at('hint').textContent = player
    ? 'The height of a bar is the probability. A click plays the clip from there; arrow keys go from window to window.'
    : 'The height of a bar is the probability. Click a window, or use the arrow keys, to read it.';
}

const gap = () => (windows.length > 150 ? 0 : 2);
const said = (window) =>
  `${clock(window.start_s)} to ${clock(window.end_s)}: ${window.scenes.slice(0, 3).map(({ scene, p }) => `${words(scene)} ${percent(p)}`).join(', ')}`;

function sharesOfTime(whole_s) {
  const shares = new Map();
  for (const { scene, start_s, until_s } of windows) {
    shares.set(scene, (shares.get(scene) || 0) + (until_s - start_s) / whole_s);
  }
  return [...shares].sort((a, b) => b[1] - a[1]);
}

function move(place, time_s = windows[place].start_s) {
  bars[now]?.classList.remove('now');
  now = place;
  bars[now].classList.add('now');
  const [first, last] = [windows[0].start_s, windows.at(-1).until_s];
  const share = Math.min(1, Math.max(0, (time_s - first) / (last - first)));
  at('cursor').hidden = false;
  at('cursor').style.left = `${100 * share}%`;
  if (at('moment').textContent !== said(windows[now])) at('moment').textContent = said(windows[now]);
  at('strip').setAttribute('aria-valuenow', now);
  at('strip').setAttribute('aria-valuetext', said(windows[now]));
}

// The last window that begins by a time.
function placeOf(time_s) {
  let [low, high] = [0, windows.length - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (windows[middle].start_s <= time_s) low = middle;
    else high = middle - 1;
  }
  return low;
}

function follow() {
  if (player === this) move(placeOf(player.currentTime), player.currentTime);
}

function glide() {
  if (player !== this) return;
  follow.call(this);
  if (!this.paused && !this.ended) requestAnimationFrame(() => glide.call(this));
}

function go(place) {
  move(place);
  if (player) player.currentTime = windows[place].start_s;
}

at('strip').addEventListener('click', (event) => {
  const box = at('strip').getBoundingClientRect();
  const share = (event.clientX - box.left) / box.width;
  const [first, last] = [windows[0].start_s, windows.at(-1).until_s];
  go(placeOf(first + share * (last - first)));
  if (player) player.play().catch(() => {});
});

at('strip').addEventListener('keydown', (event) => {
  const [end, leap] = [windows.length - 1, Math.max(1, Math.round(windows.length / 10))];
  const to = {
    ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1,
    PageDown: now - leap, PageUp: now + leap, Home: 0, End: end,
  }[event.key];
  if (to !== undefined) go(Math.min(end, Math.max(0, to)));
  else if (player && (event.key === 'Enter' || event.key === ' ')) {
    if (player.paused) player.play().catch(() => {});
    else player.pause();
  } else return;
  event.preventDefault();
});
