// A transcript as it was made, and as somebody has corrected it: values that are never changed in place, and a history.

import { aligned, heard, isUnspaced, lastBefore, shareOut } from "./words.js";

const MAX_UNDO = 200;
let keys = 0;
const fresh = (segment) => ({ ...segment, key: `s${++keys}` });

/** Returns the transcript that `verbose_json` tells: `{segments, duration, language, isTimed, isRated}`. */
export function original(result) {
  const segments = (result.segments ?? []).map((one) => fresh({ ...one, text: one.text.trim(), speaker: one.speaker ?? null }))
    .filter(({ text }) => text);
  const words = result.words ?? [];
  shareOut(segments, words);
  return {
    segments, duration: result.duration ?? result.audio_duration_s ?? 0, language: result.language_code || result.language || "",
    isTimed: words.length > 0, isRated: segments.some(({ confidence }) => typeof confidence === "number"), model: result.model ?? "",
  };
}

/** The edited transcript. Tells `change` with `{before, after, label}` in `detail`. */
export class Manuscript extends EventTarget {
  #original;
  #known = new WeakMap();
  #past = [];
  #future = [];

  constructor(first) {
    super();
    this.#original = first.segments;
    this.original = { segments: first.segments, speakers: {} };
    this.doc = this.original;
  }

  /** Takes what the server has as the edited version, without a step of the history unless `label` names one. */
  load({ segments, speakers }, label = "") {
    const byTime = new Map(this.#original.map((segment) => [timesOf(segment), segment]));
    const taken = segments.map((one) => {
      const like = byTime.get(timesOf(one));
      const speaker = one.speaker ?? null;
      return like && like.text === one.text && like.speaker === speaker ? like
        : fresh({ start: one.start, end: one.end, text: one.text, speaker });
    });
    const isOriginal = !Object.keys(speakers).length && taken.length === this.#original.length && taken.every((one, at) => one === this.#original[at]);
    const doc = isOriginal ? this.original : { segments: taken, speakers: { ...speakers } };
    if (label) this.#step(label, doc);
    else this.#become(doc, "");
  }

  get isEdited() {
    return this.doc !== this.original;
  }

  get canUndo() { return this.#past.at(-1)?.label ?? ""; }
  get canRedo() { return this.#future.at(-1)?.label ?? ""; }

  undo() { this.#travel(this.#past, this.#future); }
  redo() { this.#travel(this.#future, this.#past); }

  #travel(from, to) {
    const step = from.pop();
    if (!step) return;
    to.push({ doc: this.doc, label: step.label });
    this.#become(step.doc, step.label);
  }

  #step(label, doc) {
    this.#past.push({ doc: this.doc, label });
    if (this.#past.length > MAX_UNDO) this.#past.shift();
    this.#future = [];
    this.#become(doc, label);
  }

  #become(doc, label) {
    const before = this.doc;
    this.doc = doc;
    this.dispatchEvent(new CustomEvent("change", { detail: { before, after: doc, label } }));
  }

  #replace(label, at, count, ...segments) {
    const list = [...this.doc.segments];
    list.splice(at, count, ...segments);
    this.#step(label, { ...this.doc, segments: list });
  }

  #put(label, at, change) {
    this.#replace(label, at, 1, fresh({ ...bare(this.doc.segments[at]), ...change }));
  }

  /** Sets a segment's text; an empty one removes the segment. */
  setText(at, text) {
    const said = text.replace(/\s+/gu, " ").trim();
    if (said === this.doc.segments[at].text) return;
    if (said) this.#put("change of text", at, { text: said });
    else this.#replace("removal", at, 1);
  }

  setSpeaker(at, speaker) {
    if (this.doc.segments[at].speaker !== speaker) this.#put("change of speaker", at, { speaker });
  }

  /** Calls a speaker by a name, everywhere; an empty name gives the label back. */
  rename(label, name) {
    const said = name.trim();
    if ((this.doc.speakers[label] ?? "") === said) return;
    const { [label]: _old, ...others } = this.doc.speakers;
    this.#step("name of a speaker", { ...this.doc, speakers: said ? { ...others, [label]: said } : others });
  }

  /** Puts one speaker in the place of another, everywhere. */
  unite(label, into) {
    const segments = this.doc.segments.map((one) => (one.speaker === label ? fresh({ ...bare(one), speaker: into }) : one));
    const { [label]: _old, ...speakers } = this.doc.speakers;
    this.#step("merging of speakers", { segments, speakers });
  }

  /** Divides `text`, which takes the place of the segment's own, in front of the character at `place`. */
  split(at, place, text) {
    const one = { ...bare(this.doc.segments[at]), text };
    const [left, right] = [text.slice(0, place).trim(), text.slice(place).trim()];
    if (!left || !right) return false;
    const words = aligned(text, this.#heardIn(this.doc.segments[at]), one.start, one.end);
    const time = words.find(({ from }) => from >= place)?.start ?? words.at(-1)?.end ?? one.end;
    const middle = Math.min(Math.max(time, one.start + 0.001), Math.max(one.end - 0.001, one.start + 0.001));
    this.#replace("division", at, 1, fresh({ ...one, text: left, end: middle }),
      fresh({ ...one, text: right, start: middle, end: Math.max(one.end, middle + 0.001) }));
    return true;
  }

  /** Joins a segment and the one behind it. */
  merge(at) {
    const [one, two] = this.doc.segments.slice(at, at + 2);
    if (!two) return false;
    const gap = isUnspaced(one.text.slice(-1)) && isUnspaced(two.text[0]) ? "" : " ";
    const end = Math.max(one.end, two.end);
    this.#replace("union", at, 2, fresh({ ...bare(one), end, text: one.text + gap + two.text, speaker: one.speaker ?? two.speaker }));
    return true;
  }

  remove(at) {
    this.#replace("removal", at, 1);
  }

  /** Lets `change(text)` loose on every segment; returns how many it changed. */
  rewrite(change) {
    let count = 0;
    const segments = this.doc.segments.flatMap((one) => {
      const text = change(one.text).replace(/\s+/gu, " ").trim();
      if (text === one.text) return [one];
      count++;
      return text ? [fresh({ ...bare(one), text })] : [];
    });
    if (count) this.#step("replacement", { ...this.doc, segments });
    return count;
  }

  /** Returns what is known of a segment: `{words, old, isChanged, origin}`. `old` are the words heard at its time. */
  about(segment) {
    const known = this.#known.get(segment);
    if (known) return known;
    const found = this.#look(segment);
    this.#known.set(segment, found);
    return found;
  }

  #look(segment) {
    if (segment.spoken) {
      const words = heard(segment);
      return { words, old: words, isChanged: false, origin: segment };
    }
    const old = this.#heardIn(segment);
    const origin = this.#original[Math.max(0, lastBefore(this.#original, (segment.start + segment.end) / 2))];
    const isSame = origin && origin.text === segment.text && Math.abs(origin.start - segment.start) < 0.002;
    const words = aligned(segment.text, old, segment.start, segment.end);
    return { words, old, isChanged: words.map(textOf).join("\n") !== old.map(textOf).join("\n"), origin: isSame ? origin : null };
  }

  /** Returns the words that the model heard within a segment's time. */
  #heardIn(segment) {
    if (segment.spoken) return this.about(segment).words;
    const found = [];
    for (const one of this.#original.slice(Math.max(0, lastBefore(this.#original, segment.start) - 1))) {
      if (one.start >= segment.end) break;
      for (const word of this.about(one).words) {
        const middle = (word.start + word.end) / 2;
        if (middle >= segment.start && (middle < segment.end || one.end <= segment.end)) found.push(word);
      }
    }
    return found;
  }
}

const textOf = ({ text }) => text;
const timesOf = ({ start, end }) => `${Math.round(start * 1000)}-${Math.round(end * 1000)}`;
const bare = ({ start, end, text, speaker }) => ({ start, end, text, speaker });

/** Returns the speakers of a transcript by label, in the order in which they are first heard, then those only named. */
export function speakersOf({ segments, speakers }) {
  return [...new Set([...segments.map(({ speaker }) => speaker).filter(Boolean), ...Object.keys(speakers)])];
}

/** Returns what a speaker is called. */
export function nameOf(label, { speakers }) {
  return speakers[label] || (/^[A-Z]$/.test(label) ? `Speaker ${label}` : label);
}

/** Returns a label that no speaker has. */
export function newLabel(doc) {
  const taken = new Set(speakersOf(doc));
  for (let number = 0; ; number++) {
    const letter = String.fromCharCode(65 + (number % 26)) + (number >= 26 ? Math.floor(number / 26) : "");
    if (!taken.has(letter)) return letter;
  }
}
