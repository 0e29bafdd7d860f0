// Words with their places in a text and in time, also in a text that somebody has corrected since.

import { changes } from "./diff.js";

const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u;
const pieces = globalThis.Intl?.Segmenter ? new Intl.Segmenter(undefined, { granularity: "word" }) : null;

/** Whether texts in the script of `text` are written without spaces between words. */
export const isUnspaced = (text) => UNSPACED.test(text);

/** Returns the words of a text, `{text, from, to}`: what stands between spaces, and words of scripts without them. */
export function tokens(text) {
  const found = [];
  for (const { 0: run, index } of text.matchAll(/\S+/gu)) {
    if (isUnspaced(run)) for (const [piece, at] of divided(run)) found.push({ text: piece, from: index + at, to: index + at + piece.length });
    else found.push({ text: run, from: index, to: index + run.length });
  }
  return found;
}

/** Divides a run without spaces into words; punctuation stays with the word before it. */
function divided(run) {
  if (!pieces) return Array.from(run.matchAll(/./gsu), ({ 0: char, index }) => [char, index]);
  const found = [];
  for (const { segment, index, isWordLike } of pieces.segment(run)) {
    if (!isWordLike && found.length) found.at(-1)[0] += segment;
    else found.push([segment, index]);
  }
  return found;
}

/** Shares the words that the server lists, `{word, start, end, probability}`, out among its segments: each gets `spoken`,
 *  `{from, to, start, end, p}` by their places in its text. */
export function shareOut(segments, words) {
  let next = 0;
  for (const segment of segments) {
    let at = 0;
    segment.spoken = [];
    for (; next < words.length; next++) {
      const { word, start, end, probability } = words[next];
      const from = segment.text.indexOf(word, at);
      if (from < 0 || from - at > 8) {
        if ((start + end) / 2 < segment.end && start < segment.end) continue;
        break;
      }
      at = from + word.length;
      segment.spoken.push({ from, to: at, start, end, p: probability ?? null });
    }
  }
}

/** Returns the words of a segment as the model heard them: tokens with `start`, `end` and probability `p`. Without times
 *  from the server they are shared out by length, and `p` is `null`. */
export function heard({ text, start, end, spoken = [] }) {
  const base = spoken.length ? spoken : [{ from: 0, to: text.length, start, end, p: null }];
  let first = 0;
  return tokens(text).map((token) => {
    while (first < base.length - 1 && base[first].to <= token.from) first++;
    let last = first;
    while (last < base.length - 1 && base[last + 1].from < token.to) last++;
    return { ...token, start: timeIn(base[first], token.from), end: timeIn(base[last], token.to), p: least(base, first, last) };
  });
}

function timeIn({ from, to, start, end }, at) {
  return start + (end - start) * Math.min(1, Math.max(0, (at - from) / (to - from || 1)));
}

function least(base, first, last) {
  const known = base.slice(first, last + 1).map(({ p }) => p).filter((p) => p !== null);
  return known.length ? Math.min(...known) : null;
}

/** Returns the words of an edited text. Those of `old` that are still there keep their times and probabilities; the
 *  others share out the time of what they replaced, by their length. */
export function aligned(text, old, start, end) {
  const now = tokens(text);
  let [i, j] = [0, 0];
  const last = { a: old.length, b: old.length, c: now.length, d: now.length };
  for (const run of [...changes(old.map((word) => word.text), now.map((word) => word.text)), last]) {
    for (; i < run.a; i++, j++) Object.assign(now[j], { start: old[i].start, end: old[i].end, p: old[i].p });
    const from = run.b > run.a ? old[run.a].start : old[run.a - 1]?.end ?? start;
    const to = run.b > run.a ? old[run.b - 1].end : old[run.b]?.start ?? end;
    spread(now.slice(run.c, run.d), from, Math.max(from, to));
    [i, j] = [run.b, run.d];
  }
  return now;
}

function spread(words, from, to) {
  const total = words.reduce((sum, word) => sum + word.text.length, 0) || 1;
  let at = from;
  for (const word of words) {
    const next = at + ((to - from) * word.text.length) / total;
    Object.assign(word, { start: at, end: next, p: null, isNew: true });
    at = next;
  }
}

/** Returns the position of the last entry of `list` that begins at or before `time`; -1 before the first. */
export function lastBefore(list, time) {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle].start <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
