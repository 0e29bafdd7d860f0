// The segments on the page. All of the text is there, so that a browser's own search and screen readers find it; words
// become elements of their own only near what is seen, which keeps hours of speech light.

import { el, fill } from "../dom.js";
import { percent } from "../text.js";
import { isDoubtful, madeUp, unsure } from "./marks.js";
import { nameOf } from "./model.js";
import { lastBefore } from "./words.js";

const CHUNK = 25;
const AT_FIRST = 2 * CHUNK;
const SLICE_MS = 8;
const LINGER_S = 0.4;

const pattern = el("div", { class: "seg", role: "listitem", tabindex: -1 },
  el("button", { class: "seg-time number", type: "button", tabindex: -1 }),
  el("div", { class: "seg-body" }, el("p", { class: "seg-who", hidden: true }), el("p", { class: "seg-text", dir: "auto" })));

/** Shows the segments of a document. `desk` is what `reader.js` makes. Tells `select` (with the index), `word` (with
 *  `{index, word, event}`), `drawn` (with the item whose words are there now) and `whole` once all segments are there. */
export class List extends EventTarget {
  #desk;
  #items = [];
  #at = new Map();
  #doc = { segments: [], speakers: {} };
  #now = { item: null, word: -1 };
  #frame = 0;
  #near;
  #seen = new Set();
  selected = -1;

  constructor(desk) {
    super();
    this.#desk = desk;
    this.node = el("div", { class: "segs", role: "list", "aria-label": "Transcript", on: { click: (event) => this.#clicked(event), dblclick: (event) => this.#doubled(event), focusin: (event) => this.#focused(event) } });
    this.#near = new IntersectionObserver((entries) => this.#crossed(entries), { rootMargin: "400px 0px" });
  }

  get doc() { return this.#doc; }
  get length() { return this.#doc.segments.length; }
  get current() { return this.#at.get(this.#now.item?.node) ?? -1; }

  /** Shows a document from its beginning; what is not seen at once follows in slices. */
  show(doc) {
    this.clear();
    this.#doc = doc;
    this.#build(AT_FIRST);
    this.#later();
  }

  clear() {
    cancelAnimationFrame(this.#frame);
    this.#near.disconnect();
    this.#items = [];
    this.#at.clear();
    this.#seen.clear();
    this.#now = { item: null, word: -1 };
    this.selected = -1;
    fill(this.node);
  }

  #later() {
    cancelAnimationFrame(this.#frame);
    if (this.#items.length >= this.length) { this.dispatchEvent(new Event("whole")); return; }
    this.#frame = requestAnimationFrame(() => {
      const until = performance.now() + SLICE_MS;
      while (this.#items.length < this.length && performance.now() < until) this.#build(this.#items.length + 50);
      this.#later();
    });
  }

  #build(count) {
    for (let at = this.#items.length; at < Math.min(count, this.length); at++) {
      if (at % CHUNK === 0) this.node.append(this.#chunk(Math.min(CHUNK, this.length - at)));
      const item = this.#item(this.#doc.segments[at]);
      this.#items.push(item);
      this.#at.set(item.node, at);
      this.#who(at);
      this.node.lastElementChild.append(item.node);
    }
  }

  /** Segments come in chunks, which the browser lays out, and we look for, as one: thousands would each cost a little. */
  #chunk(size) {
    const node = el("div", { class: "chunk", role: "none", style: { "--size": size } });
    this.#near.observe(node);
    return node;
  }

  #item(segment) {
    const node = pattern.cloneNode(true);
    const [time, body] = node.children;
    const item = { segment, node, who: body.children[0], text: body.children[1], time, isDrawn: false };
    time.textContent = this.#desk.shown(segment.start);
    time.setAttribute("aria-label", `Play from ${time.textContent}`);
    item.text.textContent = segment.text;
    this.#note(item);
    return item;
  }

  /** Shows another state of the document; what stayed the same stays where it is. */
  update(doc) {
    this.#build(this.length);
    const namesChanged = JSON.stringify(doc.speakers) !== JSON.stringify(this.#doc.speakers);
    const [heirs, olds] = [new Set(doc.segments), this.#items];
    const [known, unsettled] = [new Set(olds.map(({ segment }) => segment)), new Set()];
    let [cursor, last] = [0, null];
    const isLeaving = () => cursor < olds.length && !heirs.has(olds[cursor].segment);
    this.#doc = doc;
    this.#items = doc.segments.map((segment, at) => {
      if (olds[cursor]?.segment !== segment) for (const near of [at, at + 1]) unsettled.add(near);
      if (known.has(segment)) {
        while (isLeaving()) olds[cursor++].node.remove();
        return (last = olds[cursor++]);
      }
      const item = this.#item(segment);
      if (isLeaving()) olds[cursor++].node.replaceWith(item.node);
      else this.#insert(item, olds[cursor], last);
      return (last = item);
    });
    for (const { node } of olds.slice(cursor)) node.remove();
    this.#settle(namesChanged ? this.#items.keys() : unsettled);
  }

  #insert(item, next, last) {
    const chunk = last?.node.parentElement;
    if (next) next.node.before(item.node);
    else (chunk && chunk.childElementCount < CHUNK ? chunk : this.node.appendChild(this.#chunk(CHUNK))).append(item.node);
  }

  #settle(places) {
    this.#at = new Map(this.#items.map(({ node }, at) => [node, at]));
    if (!this.#at.has(this.#now.item?.node)) this.#now = { item: null, word: -1 };
    for (const at of places) if (at < this.#items.length) this.#who(at);
    const kept = this.#at.get(this.node.querySelector(".seg.selected"));
    this.selected = kept ?? Math.min(this.selected, this.length - 1);
    if (kept === undefined && this.selected >= 0) this.#mark(this.selected);
    for (const chunk of this.#seen) this.#drawChunk(chunk);
  }

  #who(at) {
    const { segment: { speaker }, who, node } = this.#items[at];
    who.hidden = !speaker || this.#doc.segments[at - 1]?.speaker === speaker;
    who.textContent = speaker ? nameOf(speaker, this.#doc) : "";
    node.dataset.who = speaker ? this.#desk.colourOf(speaker) : "";
  }

  /** Why the segment is to be read again stands above its text. */
  #note(item) {
    item.node.querySelector(".seg-note")?.remove();
    const about = item.segment.spoken ? { origin: item.segment } : this.#desk.manuscript.about(item.segment);
    const { marks, isTimed } = this.#desk;
    const why = (marks.madeUp && madeUp(about.origin)) || (marks.words && unsure(about.origin, isTimed));
    item.node.classList.toggle("doubted", Boolean(why));
    if (why) item.text.before(el("p", { class: "seg-note", text: why }));
  }

  #crossed(entries) {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) {
        this.#seen.add(target);
        this.#drawChunk(target);
      } else if (this.#seen.delete(target)) this.#fade(target);
    }
  }

  #drawChunk(chunk) {
    for (const node of chunk.children) {
      const item = this.#items[this.#at.get(node)];
      if (item && !item.isDrawn && !item.isEdited) this.#draw(item);
    }
  }

  #fade(chunk) {
    for (const node of chunk.children) {
      const item = this.#items[this.#at.get(node)];
      if (!item?.isDrawn || item.isEdited) continue;
      item.isDrawn = false;
      item.text.textContent = item.segment.text;
    }
  }

  #draw(item) {
    const { words } = this.#desk.manuscript.about(item.segment);
    const { marks } = this.#desk;
    const parts = [];
    let at = 0;
    words.forEach((word, index) => {
      if (word.from > at) parts.push(item.segment.text.slice(at, word.from));
      const isLow = marks.words && isDoubtful(word, marks);
      const node = document.createElement("span");
      node.className = isLow ? "w low" : "w";
      node.dataset.w = index;
      if (isLow) node.title = `${percent(word.p, 0)} sure`;
      node.textContent = word.text;
      parts.push(node);
      at = word.to;
    });
    parts.push(item.segment.text.slice(at));
    item.text.replaceChildren(...parts.filter((part) => part !== ""));
    item.isDrawn = true;
    if (item === this.#now.item) this.#wordNode(item, this.#now.word)?.classList.add("now");
    this.dispatchEvent(new CustomEvent("drawn", { detail: item }));
  }

  /** Shows marks, times and speakers anew, when what is shown of them has changed. */
  refresh() {
    this.#items.forEach((item, at) => {
      item.time.textContent = this.#desk.shown(item.segment.start);
      this.#note(item);
      this.#who(at);
      if (item.isDrawn && !item.isEdited) this.#draw(item);
    });
  }

  /** Yields the items whose words are elements: `{segment, node, text}`. */
  *drawn() {
    for (const item of this.#items) if (item.isDrawn && !item.isEdited) yield item;
  }

  /** Returns the item of a segment, which is made if it was not there yet. */
  item(at) {
    if (at >= this.#items.length) this.#build(at + 1);
    return this.#items[at];
  }

  #wordNode(item, word) {
    return word < 0 ? null : item.text.querySelector(`[data-w="${word}"]`);
  }

  /** Marks what is said at a time; returns whether that is another word than before. */
  play(time) {
    const at = lastBefore(this.#doc.segments, time);
    const item = at < 0 ? null : this.item(at);
    let word = -1;
    if (item) {
      const { words } = this.#desk.manuscript.about(item.segment);
      word = lastBefore(words, time);
      if (word >= 0 && time > words[word].end + LINGER_S) word = -1;
    }
    if (item === this.#now.item && word === this.#now.word) return false;
    this.#unmark();
    this.#now = { item, word };
    if (item) {
      item.node.classList.add("playing");
      this.#wordNode(item, word)?.classList.add("now");
    }
    return true;
  }

  #unmark() {
    const { item, word } = this.#now;
    item?.node.classList.remove("playing");
    if (item) this.#wordNode(item, word)?.classList.remove("now");
  }

  /** Returns what is to be kept in view: the word that is said, else its segment. */
  get spot() {
    const { item, word } = this.#now;
    return item && (this.#wordNode(item, word) ?? item.node);
  }

  /** Makes a segment the one that keys and tools work on. */
  select(at, { focus = false } = {}) {
    if (at < 0 || at >= this.length) return;
    const old = this.#items[this.selected]?.node;
    old?.classList.remove("selected");
    if (old) old.tabIndex = -1;
    this.selected = at;
    const node = this.#mark(at);
    if (focus) node.focus({ preventScroll: true });
    this.dispatchEvent(new CustomEvent("select", { detail: at }));
  }

  #mark(at) {
    const { node } = this.item(at);
    node.classList.add("selected");
    node.tabIndex = 0;
    return node;
  }

  #found(event) {
    const node = event.target.closest(".seg");
    return node && this.#at.has(node) ? this.#at.get(node) : -1;
  }

  #focused({ target }) {
    const at = this.#at.get(target);
    if (at !== undefined && at !== this.selected) this.select(at);
  }

  #clicked(event) {
    const at = this.#found(event);
    if (at < 0 || event.target.closest(".seg-tools, textarea") || !getSelection().isCollapsed) return;
    if (at !== this.selected) this.select(at);
    const item = this.#items[at];
    if (item.isEdited) return;
    const found = event.target.closest(".w");
    const { words } = this.#desk.manuscript.about(item.segment);
    if (found) this.#tell("word", { index: at, word: words[Number(found.dataset.w)] });
    else if (event.target.closest(".seg-time")) {
      this.select(at, { focus: true }); // On the button, the space bar would play from here again and again.
      this.#tell("word", { index: at, word: null });
    }
  }

  #doubled(event) {
    const at = this.#found(event);
    if (at < 0 || event.target.closest(".seg-tools, .seg-time, textarea")) return;
    const found = event.target.closest(".w");
    const { words } = this.#desk.manuscript.about(this.#items[at].segment);
    getSelection().removeAllRanges();
    this.#tell("open", { index: at, place: found ? words[Number(found.dataset.w)].to : null });
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  close() {
    cancelAnimationFrame(this.#frame);
    this.#near.disconnect();
  }
}
