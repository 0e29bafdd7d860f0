// Subtitles and time codes as text: read, moved, and written for people.

import { nameOf } from "./model.js";

const pad = (number, digits = 2) => String(number).padStart(digits, "0");

/** `3723.5` -> `01:02:03`: a time as editors write it. */
export function timeCode(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${pad(Math.floor(whole / 3600))}:${pad(Math.floor(whole / 60) % 60)}:${pad(whole % 60)}`;
}

/** `1:02:03`, `2:03` or `123.5` -> seconds; `null` for what is none of them. */
export function parsedTime(text) {
  const found = /^(?:(?:(\d{1,3}):)?(\d{1,2}):)?(\d{1,6}(?:[.,]\d+)?)$/.exec(text.trim());
  if (!found) return null;
  const [, hours = 0, minutes = 0, seconds] = found;
  return Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds.replace(",", "."));
}

const STAMP = /(\d{2,}):(\d\d):(\d\d)([.,])(\d{3})/g;

const seconds = ([, hours, minutes, rest, , ms]) => Number(hours) * 3600 + Number(minutes) * 60 + Number(rest) + Number(ms) / 1000;

/** Returns the cues of SubRip text: `{start, end, lines}`, times in seconds. */
export function cuesOf(srt) {
  const found = [];
  for (const block of srt.split(/\n\n+/)) {
    const lines = block.trim().split("\n");
    const at = lines.findIndex((line) => line.includes(" --> "));
    const [from, to] = at < 0 ? [] : [...lines[at].matchAll(STAMP)];
    if (to) found.push({ start: seconds(from), end: seconds(to), lines: lines.slice(at + 1) });
  }
  return found;
}

/** Returns srt, vtt or tsv text with all of its times later by `offset` seconds; other formats as they are. */
export function moved(text, format, offset) {
  if (!offset) return text;
  const ms = Math.round(offset * 1000);
  if (format === "tsv") return text.replace(/^(\d+)\t(\d+)\t/gm, (_, from, to) => `${Number(from) + ms}\t${Number(to) + ms}\t`);
  if (format !== "srt" && format !== "vtt") return text;
  return text.replace(/^.* --> .*$/gm, (line) => line.replace(STAMP, (...found) => {
    const total = Math.round(seconds(found) * 1000) + ms;
    return `${timeCode(total / 1000)}${found[4]}${pad(total % 1000, 3)}`;
  }));
}

/** Returns segments as text to read or paste. A paragraph is what one speaker says in a row, or a segment where times
 *  are wanted or nobody is told apart. `start` is added to all times. */
export function prose(segments, doc, { times = false, names = true, start = 0 } = {}) {
  const paragraphs = [];
  let last;
  for (const segment of segments) {
    const goesOn = !times && paragraphs.length && segment.speaker && segment.speaker === last;
    if (goesOn) paragraphs[paragraphs.length - 1] += ` ${segment.text}`;
    else {
      const who = names && segment.speaker && (times || segment.speaker !== last) ? `${nameOf(segment.speaker, doc)}: ` : "";
      paragraphs.push(`${times ? `[${timeCode(segment.start + start)}] ` : ""}${who}${segment.text}`);
    }
    last = segment.speaker;
  }
  return paragraphs.join(times || !last ? "\n" : "\n\n");
}
