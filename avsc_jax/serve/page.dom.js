// Elements, and numbers and names in words.

export const at = (id) => document.getElementById(id);

export function add(parent, tag, text = '') {
  const child = document.createElement(tag);
  child.textContent = text;
  parent.append(child);
  return child;
}

export const words = (scene) => scene.replaceAll('_', ' ');
export const percent = (p) => `${(100 * p).toFixed(1)} %`;

// The likeliest scene of an answer; of a system of several labels, those that are true.
export function headline({ scenes: [{ scene, p }], labels }) {
  if (!labels) return `${words(scene)} ${percent(p)}`;
  return labels.length ? labels.map(words).join(', ') : 'none of the labels';
}

export function clock(s) {
  const whole = Math.round(s);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const two = (n) => `${n}`.padStart(2, '0');
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
