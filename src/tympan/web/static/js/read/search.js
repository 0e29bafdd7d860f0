// Finding and replacing in a transcript, whatever its case and accents.

import { el, notice } from "../dom.js";

const WAIT_MS = 120;
const paints = typeof Highlight === "function" && Boolean(globalThis.CSS?.highlights);

const PLAIN = /^[\x20-\x7e]*$/;
const likes = new Map();

function like(char) {
  if (!likes.has(char)) likes.set(char, char.toLowerCase().normalize("NFD").replace(/\p{M}/gu, ""));
  return likes.get(char);
}

/** Returns a text without case and accents, and where in the text each of its characters stands (`null`: where it is). */
export function folded(text) {
  if (PLAIN.test(text)) return { plain: text.toLowerCase(), places: null };
  let plain = "";
  const places = [];
  let at = 0;
  for (const char of text) {
    const said = like(char);
    plain += said;
    for (let count = 0; count < said.length; count++) places.push(at);
    at += char.length;
  }
  places.push(text.length);
  return { plain, places };
}

/** Returns the places `[from, to)` of a folded phrase in a text that was folded. */
export function hitsIn({ plain, places }, phrase) {
  const found = [];
  for (let at = plain.indexOf(phrase); phrase && at >= 0; at = plain.indexOf(phrase, at + phrase.length)) {
    const to = at + phrase.length;
    found.push(places ? [places[at], places[to]] : [at, to]);
  }
  return found;
}

/** The field, its buttons and what it finds. `go(index)` shows a segment. */
export class Search {
  #desk;
  #list;
  #go;
  #folds = new WeakMap();
  #hits = [];
  #inSegment = new Map();
  #phrase = "";
  #at = -1;
  #timer = 0;
  #all = paints ? new Highlight() : null;
  #one = paints ? new Highlight() : null;

  constructor(desk, list, go) {
    [this.#desk, this.#list, this.#go] = [desk, list, go];
    if (paints) {
      this.#one.priority = 1;
      CSS.highlights.set("hit", this.#all);
      CSS.highlights.set("hit-now", this.#one);
    }
    list.addEventListener("drawn", ({ detail }) => this.#paintItem(detail));
    this.node = this.#build();
  }

  #build() {
    const small = (text, label, click) => el("button", { class: "button small icon", type: "button", text, "aria-label": label, title: label, on: { click } });
    this.field = el("input", { type: "search", placeholder: "Search  /", "aria-label": "Search in the transcript", autocomplete: "off",
      on: { input: () => this.#soon(), keydown: (event) => this.#key(event) } });
    this.count = el("output", { class: "small soft number hits", "aria-live": "polite" });
    this.substitute = el("input", { type: "text", placeholder: "Replace with", "aria-label": "Replace with", autocomplete: "off" });
    this.replacing = el("div", { class: "row replace", hidden: true }, this.substitute,
      el("button", { class: "button small", type: "button", text: "Replace all", on: { click: () => this.#replaceAll() } }));
    const more = small("⇄", "Replace", () => {
      this.replacing.hidden = !this.replacing.hidden;
      more.setAttribute("aria-expanded", String(!this.replacing.hidden));
      if (!this.replacing.hidden) this.substitute.focus();
    });
    more.setAttribute("aria-expanded", "false");
    return el("div", { class: "search", role: "search" }, el("div", { class: "row" }, this.field, this.count,
      small("↑", "Previous match (Shift+Enter)", () => this.step(-1)), small("↓", "Next match (Enter)", () => this.step(1)), more), this.replacing);
  }

  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => { this.find(); if (this.#hits.length) this.step(1); }, WAIT_MS);
  }

  #key(event) {
    if (event.key === "Enter") {
      event.preventDefault();
      if (this.#phrase !== folded(this.field.value.trim()).plain) this.find();
      this.step(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape") {
      this.field.value = "";
      this.find();
      this.field.blur();
    }
  }

  #fold(segment) {
    const known = this.#folds.get(segment) ?? folded(segment.text);
    this.#folds.set(segment, known);
    return known;
  }

  /** Looks anew, in what the list shows now. */
  find() {
    this.#phrase = folded(this.field.value.trim()).plain;
    this.#hits = [];
    this.#inSegment.clear();
    if (this.#phrase) this.#list.doc.segments.forEach((segment, index) => {
      const places = hitsIn(this.#fold(segment), this.#phrase);
      if (places.length) this.#inSegment.set(segment, places);
      for (const place of places) this.#hits.push({ segment, index, place });
    });
    this.#at = Math.min(this.#at, this.#hits.length - 1);
    if (!this.#phrase) this.#at = -1;
    this.#paint();
    this.#tell();
  }

  #tell() {
    const { length } = this.#hits;
    this.count.textContent = !this.#phrase ? "" : length ? `${this.#at + 1} of ${length}` : "no matches";
  }

  /** Goes to the next hit, or the one before for -1; the first is the next one behind what is selected. */
  step(by) {
    const { length } = this.#hits;
    if (!length) return this.#tell();
    const start = this.#hits.findIndex(({ index }) => index >= Math.max(0, this.#list.selected));
    this.#at = this.#at < 0 ? Math.max(0, start) : (this.#at + by + length) % length;
    const hit = this.#hits[this.#at];
    this.#go(hit.index);
    this.#paintNow(hit);
    return this.#tell();
  }

  #paint() {
    if (!paints) return;
    this.#all.clear();
    this.#one.clear();
    for (const item of this.#list.drawn()) this.#paintItem(item);
  }

  #paintItem(item) {
    const places = this.#inSegment.get(item.segment);
    if (!paints || !places) return;
    for (const place of places) this.#all.add(rangeOf(item.text, place));
    const hit = this.#hits[this.#at];
    if (hit?.segment === item.segment) this.#paintNow(hit);
  }

  #paintNow({ index, place }) {
    if (!paints) return;
    this.#one.clear();
    this.#one.add(rangeOf(this.#list.item(index).text, place));
  }

  #replaceAll() {
    if (!this.#phrase || !this.#hits.length) { notice("Search for something first."); return; }
    const by = this.substitute.value;
    const phrase = this.#phrase;
    const shown = this.#hits.length;
    if (!this.#desk.edits()) return;
    this.#desk.manuscript.rewrite((text) => replaced(text, hitsIn(folded(text), phrase), by));
    notice(`Replaced ${shown} ${shown === 1 ? "place" : "places"}. Ctrl+Z undoes it.`, "good");
    this.find();
  }

  close() {
    clearTimeout(this.#timer);
    if (paints) for (const name of ["hit", "hit-now"]) CSS.highlights.delete(name);
  }
}

function replaced(text, places, by) {
  let [said, at] = ["", 0];
  for (const [from, to] of places) {
    said += text.slice(at, from) + by;
    at = to;
  }
  return said + text.slice(at);
}

/** Returns the range of the characters `[from, to)` of an element's text. */
function rangeOf(node, [from, to]) {
  const range = new Range();
  const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
  let at = 0;
  range.selectNodeContents(node);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const end = at + text.length;
    if (from >= at && from < end) range.setStart(text, from - at);
    if (to > at && to <= end) { range.setEnd(text, to - at); break; }
    at = end;
  }
  return range;
}
