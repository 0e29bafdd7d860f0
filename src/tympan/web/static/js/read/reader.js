// A finished transcript: everything on the page that reads, plays, marks and changes it, wired together.

import { request } from "../api.js";
import { ask, dialog, el, fill, notice } from "../dom.js";
import { clock, language, moment } from "../text.js";
import { showChanges } from "./changes.js";
import { prose, timeCode } from "./cues.js";
import { Editor } from "./editor.js";
import { copyText, openExports } from "./exports.js";
import { Follow, jump, reveal } from "./follow.js";
import { listen, showHelp } from "./keys.js";
import { List } from "./list.js";
import { switches } from "./marks.js";
import { Manuscript, original, speakersOf } from "./model.js";
import { Speakers, facts, marksPanel, offsetPanel } from "./panels.js";
import { Player, controls } from "./player.js";
import { Saver } from "./saver.js";
import { Search } from "./search.js";
import { survey } from "./survey.js";
import { Wave } from "./wave.js";
import { lastBefore } from "./words.js";

const SHADES = 8;
const SURVEY_MS = 150;
const OFFSET = "tympan.offset.";

/** Shows a job's transcript in `body`; `page` has the head. Returns what ends it. Throws `ApiError`. */
export async function openReader(page, body, { job, title, signal, from }) {
  fill(body, el("p", { class: "empty", role: "status", text: "Loading the transcript…" }));
  const first = original(await request("GET", `/v1/jobs/${encodeURIComponent(job.id)}/result`, { query: { format: "verbose_json" }, signal }));
  const reader = new Reader(page, { job, title, first });
  await reader.saver.open(signal);
  reader.open(body, from, signal);
  return () => reader.close();
}

class Reader {
  #leave = [];
  #changed = 0;
  #surveys = 0;

  constructor(page, { job, title, first }) {
    Object.assign(this, { page, job, title, first, marks: switches(), isTimed: first.isTimed, isRated: first.isRated, language: first.language });
    this.manuscript = new Manuscript(first);
    this.saver = new Saver(job.id, this.manuscript);
    this.player = new Player(job.id, first.duration);
    this.colours = new Map();
    this.offset = Number(localStorage.getItem(OFFSET + job.id)) || 0;
    this.version = "original";
    this.copy = (segments) => copyText(prose(segments, this.list.doc, { times: true, start: this.offset }));
    this.link = (time) => copyText(`${location.href.split("#")[0]}#/jobs/${job.id}?t=${time.toFixed(1)}`);
  }

  /** A time as it is shown: with the time code at the start, and hours where there are any. */
  shown = (time) => (this.offset || this.first.duration >= 3600 ? timeCode(time + this.offset) : clock(time));

  colourOf = (speaker) => {
    if (!this.colours.has(speaker)) this.colours.set(speaker, String((this.colours.size % SHADES) + 1));
    return this.colours.get(speaker);
  };

  open(body, from, signal) {
    this.version = this.manuscript.isEdited ? "edited" : "original";
    for (const label of speakersOf(this.manuscript.original)) this.colourOf(label);
    this.#build(body);
    this.#wire();
    this.#show();
    this.#head();
    this.player.open();
    this.wave.open(this.job.id, signal);
    if (from !== null) this.goTo(from);
  }

  #build(body) {
    this.list = new List(this);
    this.editor = new Editor(this, this.list);
    this.follow = new Follow(this.list, () => this.#covered());
    this.search = new Search(this, this.list, (index) => this.goToSegment(index));
    this.wave = new Wave(this.player, this.shown);
    this.speakers = new Speakers(this);
    this.marksPanel = marksPanel(this, () => this.#remark());
    this.changes = el("section", { class: "card changes", "aria-label": "Changes", hidden: true });
    this.nothing = el("p", { class: "empty", hidden: true, text: "No speech was found in this recording." });
    this.top = el("div", { class: "read-top" }, this.#playerPart(), this.#toolbar());
    fill(body, this.top, el("div", { class: "read-body" },
      el("div", { class: "read-text", data: { colours: this.marks.speakers ? "on" : "off" } }, this.list.node, this.changes, this.nothing),
      this.#side()),
    this.follow.node);
  }

  /** On a narrow page it is folded, so that the text comes first. */
  #side() {
    const wide = matchMedia("(min-width: 62rem)");
    const box = el("details", { class: "read-side", open: wide.matches }, el("summary", { text: "Speakers, marks, time code" }),
      el("aside", { class: "stack", "aria-label": "About this transcript" }, this.speakers.node, this.marksPanel.node, offsetPanel(this, () => this.#offsetChanged())));
    const fit = () => { box.open = wide.matches; };
    wide.addEventListener("change", fit);
    this.#leave.push(() => wide.removeEventListener("change", fit));
    return box;
  }

  #playerPart() {
    const zoom = (text, label, factor) => el("button", { class: "button quiet small icon", type: "button", text, "aria-label": label, title: `${label} (Ctrl and wheel)`, on: { click: () => this.wave.zoomBy(factor) } });
    return el("section", { class: "card read-player", "aria-label": "Recording" }, this.player.media, this.wave.node,
      controls(this.player, this.shown, [el("span", { class: "zooms" }, zoom("−", "Zoom out", 0.5), zoom("+", "Zoom in", 2))]));
  }

  #toolbar() {
    this.tabs = ["original", "edited", "changes"].map((name) => el("button", { class: "button small", type: "button", text: name[0].toUpperCase() + name.slice(1), on: { click: () => this.#choose(name) } }));
    const small = (text, title, click) => el("button", { class: "button quiet small icon", type: "button", text, title, "aria-label": title, on: { click } });
    this.undo = small("↶", "Undo", () => this.manuscript.undo());
    this.redo = small("↷", "Redo", () => this.manuscript.redo());
    this.saved = el("button", { class: "button quiet small saved", type: "button", "aria-live": "polite", on: { click: () => this.#aboutSaving() } });
    return el("div", { class: "read-tools row wrap" }, el("div", { class: "row tabs", role: "group", "aria-label": "Version" }, this.tabs),
      el("div", { class: "row" }, this.undo, this.redo, this.saved), this.search.node);
  }

  #head() {
    const names = (code) => (code ? language(code) : "");
    this.page.querySelector(".facts").append(...facts(this.job, this.first, names));
    const button = (text, title, click, kind = "") => el("button", { class: `button ${kind}`, type: "button", text, title, on: { click } });
    this.page.querySelector(".head-tools").append(
      button("Copy all", "Copy the text with the names of its speakers", () => copyText(prose(this.list.doc.segments, this.list.doc))),
      button("Export", "Text, Word, subtitles and more", () => { this.editor.commit(); openExports(this); }, "main"),
      button("Shortcuts", "Keyboard shortcuts (?)", () => showHelp(this.#deeds())));
  }

  #wire() {
    const { player, manuscript, saver, list } = this;
    player.addEventListener("tick", ({ detail }) => this.#ticked(detail?.isJump));
    manuscript.addEventListener("change", ({ detail }) => this.#manuscriptChanged(detail));
    saver.addEventListener("state", () => this.#tellSaving());
    list.addEventListener("word", ({ detail }) => this.#playFrom(detail.word?.start ?? list.doc.segments[detail.index].start));
    const sizes = new ResizeObserver(() => this.page.style.setProperty("--covered", `${this.#covered()}px`));
    sizes.observe(this.top);
    const unsaved = (event) => { if (saver.isPending) event.preventDefault(); };
    window.addEventListener("beforeunload", unsaved);
    this.#leave.push(listen(this.#deeds()), () => window.removeEventListener("beforeunload", unsaved), () => sizes.disconnect(),
      () => this.follow.close(), () => this.search.close(), () => this.wave.close(), () => this.list.close());
  }

  #covered() {
    const bottom = [document.querySelector("header.bar"), this.top, this.top.firstElementChild].map((node) => {
      const isStuck = getComputedStyle(node).position === "sticky";
      return isStuck ? Number.parseFloat(getComputedStyle(node).top) + node.offsetHeight : 0;
    });
    return Math.max(...bottom);
  }

  get isEditable() { return this.version === "edited" || (this.version === "original" && !this.manuscript.isEdited); }
  get #doc() { return this.version === "original" ? this.manuscript.original : this.manuscript.doc; }

  /** Makes the edited version the one that is shown; returns whether that can be done. */
  edits() {
    if (this.version !== "edited") this.#choose("edited");
    return true;
  }

  /** Returns where in the edited version a segment is, which is shown then; -1 where it is no longer there. */
  editable(at) {
    if (this.isEditable) return at;
    const { start, end } = this.list.doc.segments[at];
    this.edits();
    const found = lastBefore(this.list.doc.segments, (start + end) / 2);
    if (found >= 0) jump(this.list.item(found).node, this.#covered());
    return found;
  }

  #choose(version) {
    this.editor.commit();
    if (version === this.version) return;
    this.version = version;
    this.#show();
    const node = version === "changes" ? this.changes : this.list.length && this.list.item(Math.max(0, this.list.selected, this.list.current)).node;
    if (node) jump(node, this.#covered());
  }

  #show() {
    const isList = this.version !== "changes";
    [this.list.node.hidden, this.changes.hidden] = [!isList, isList];
    this.nothing.hidden = !isList || this.#doc.segments.length > 0;
    if (isList && this.list.doc !== this.#doc) {
      const { selected } = this.list;
      this.list.show(this.#doc);
      if (selected >= 0) this.list.select(Math.min(selected, this.list.length - 1));
      this.list.play(this.player.time);
      this.search.find();
    } else if (!isList) showChanges(this.changes, this, (index) => { this.#choose("edited"); this.goToSegment(index); });
    this.#afterChange();
  }

  #manuscriptChanged() {
    if (this.version === "original" && this.manuscript.isEdited) this.version = "edited";
    if (this.version === "changes") this.#show();
    else {
      this.list.update(this.#doc);
      this.list.play(this.player.time);
      this.editor.refresh();
      this.search.find();
      this.nothing.hidden = this.#doc.segments.length > 0;
      this.#afterChange();
    }
  }

  #afterChange() {
    this.tabs.forEach((tab, at) => tab.setAttribute("aria-pressed", String(["original", "edited", "changes"][at] === this.version)));
    const { canUndo, canRedo } = this.manuscript;
    [this.undo.disabled, this.redo.disabled] = [!canUndo, !canRedo];
    this.undo.title = canUndo ? `Undo: ${canUndo} (Ctrl+Z)` : "Nothing to undo";
    this.redo.title = canRedo ? `Redo: ${canRedo} (Ctrl+Shift+Z)` : "Nothing to redo";
    this.speakers.show(this.#doc, this.isEditable);
    this.#tellSaving();
    clearTimeout(this.#changed);
    this.#changed = setTimeout(() => this.#survey(), SURVEY_MS);
  }

  /** Shows what is doubtful, how much of it there is, and the bands below the wave. */
  async #survey() {
    const turn = ++this.#surveys;
    const found = await survey(this, this.#doc.segments, () => turn === this.#surveys && !this.isClosed);
    if (!found) return;
    this.doubts = found.doubts;
    this.marksPanel.count(found.words, found.segments);
    this.wave.setBands({ speakers: this.marks.speakers ? found.speakers : [], doubts: found.doubts.filter(({ isMadeUp }) => isMadeUp) });
    this.page.dataset.surveyed = "yes";
  }

  #remark() {
    this.page.querySelector(".read-text").dataset.colours = this.marks.speakers ? "on" : "off";
    this.list.refresh();
    this.#afterChange();
  }

  #offsetChanged() {
    if (this.offset) localStorage.setItem(OFFSET + this.job.id, this.offset);
    else localStorage.removeItem(OFFSET + this.job.id);
    this.list.refresh();
    this.player.dispatchEvent(new Event("state"));
  }

  #ticked(isJump) {
    if (this.version === "changes") return;
    const isNew = this.list.play(this.player.time);
    if (isJump) this.follow.isOn = true;
    if (isNew && (this.player.isPlaying || isJump)) this.follow.moved();
  }

  #playFrom(time) {
    this.player.seek(time);
    this.player.play();
  }

  goTo(time) {
    this.player.seek(time);
    const at = Math.max(0, lastBefore(this.list.doc.segments, time));
    if (at < this.list.length) this.goToSegment(at);
  }

  goToSegment(index) {
    const { node } = this.list.item(index);
    this.follow.isOn = false;
    this.list.select(index);
    jump(node, this.#covered());
  }

  #deeds() {
    const here = () => (this.list.selected >= 0 ? this.list.selected : Math.max(0, this.list.current));
    const withSegment = (work) => () => { if (this.list.length && this.version !== "changes") work(here()); };
    return {
      toggle: () => this.player.toggle(), skip: (by) => this.player.skip(by), speed: (by) => this.player.shiftSpeed(by),
      word: (by) => this.#stepWord(by), move: (by) => this.#move(here(), by), follow: () => this.follow.resume(),
      playHere: withSegment((at) => this.#playFrom(this.list.doc.segments[at].start)),
      edit: withSegment((at) => this.editor.open(at)), merge: withSegment((at) => this.editor.merge(at)),
      copy: withSegment((at) => this.copy([this.list.doc.segments[at]])),
      speaker: (number) => withSegment((at) => this.#giveTo(at, number))(),
      doubt: (by) => this.#nextDoubt(by), search: () => { this.search.field.focus(); this.search.field.select(); },
      undo: () => this.manuscript.undo(), redo: () => this.manuscript.redo(),
      save: () => { this.editor.commit(); this.saver.flush(); },
    };
  }

  #giveTo(at, number) {
    const label = speakersOf(this.manuscript.doc)[number];
    const place = label ? this.editable(at) : -1;
    if (place < 0) return;
    this.manuscript.setSpeaker(place, label);
    this.list.select(place, { focus: true });
  }

  #move(at, by) {
    if (this.version === "changes" || !this.list.length) return;
    const next = this.list.selected < 0 ? at : Math.min(this.list.length - 1, Math.max(0, at + by));
    this.list.select(next, { focus: true });
    this.follow.isOn = false;
    reveal(this.list.item(next).node, this.#covered());
  }

  #stepWord(by) {
    const { segments } = this.list.doc;
    const time = this.player.time;
    let at = Math.max(0, lastBefore(segments, time));
    for (const end = by > 0 ? segments.length : -1; at !== end; at += by) {
      const { words } = this.manuscript.about(segments[at]);
      const found = by > 0 ? words.find(({ start }) => start > time + 0.001) : words.findLast(({ start }) => start < time - 0.05);
      if (found) { this.player.seek(found.start); return; }
    }
  }

  #nextDoubt(by) {
    const time = this.player.time;
    const found = by > 0 ? this.doubts?.find(({ start }) => start > time + 0.001) : this.doubts?.findLast(({ start }) => start < time - 0.001);
    if (!found) { notice(this.doubts?.length ? "No further doubtful place in this direction." : "Nothing here is doubtful."); return; }
    if (this.version === "changes") this.#choose("edited");
    this.player.seek(found.start);
    this.goToSegment(found.index);
  }

  #tellSaving() {
    const { state, revision, error } = this.saver;
    if (this.isClosed && (state === "conflict" || state === "failed")) notice(`Your last changes of “${this.title}” were not saved: ${error.message}`, "bad");
    const texts = { none: "", saved: revision ? `Saved · revision ${revision}` : "", dirty: "Not saved yet", saving: "Saving…", conflict: "Changed elsewhere: choose a version", failed: `Not saved: ${error?.message ?? ""}` };
    this.saved.textContent = texts[state];
    this.saved.title = texts[state];
    this.saved.hidden = !texts[state];
    this.saved.dataset.state = state;
    if (state === "conflict" && this.told !== error && !this.isClosed) { this.told = error; this.#settle(); }
  }

  async #settle() {
    const theirs = await this.saver.theirs().catch(() => null);
    if (this.isClosed) return;
    const differs = theirs ? difference(this.manuscript.doc, theirs) : 0;
    const said = theirs ? `Revision ${theirs.revision} was saved ${moment(theirs.edited_at)}, in another window or by somebody else. ${differs} of its ${theirs.segments.length} segments differ from yours.`
      : "The edited version was removed, in another window or by somebody else.";
    const act = (work) => () => { box.close(); work().catch((error) => notice(error.message, "bad")); };
    const box = dialog("Somebody else has changed this transcript", el("p", { text: said }),
      el("p", { class: "small soft", text: "Yours is on this page only until you decide. If you load theirs, Undo brings yours back." }),
      el("div", { class: "row wrap" },
        theirs && el("button", { class: "button main", type: "button", text: "Load theirs", on: { click: act(() => this.saver.loadTheirs()) } }),
        el("button", { class: "button danger", type: "button", text: theirs ? "Overwrite with mine" : "Save mine", on: { click: act(() => this.saver.overwrite()) } }),
        el("button", { class: "button", type: "button", text: "Later", on: { click: () => box.close() } })));
  }

  async #aboutSaving() {
    const { state } = this.saver;
    if (state === "conflict") { this.#settle(); return; }
    if (state === "failed" || state === "dirty") { this.saver.flush(); return; }
    const when = this.saver.editedAt ? ` It was last saved ${moment(this.saver.editedAt)}.` : "";
    if (!(await ask("Remove the edited version?", `The original stays, all corrections are removed.${when} Undo brings them back while this page is open.`, "Remove it"))) return;
    await this.saver.discard();
    this.#choose("original");
  }

  close() {
    this.isClosed = true;
    this.editor.commit();
    clearTimeout(this.#changed);
    for (const one of this.#leave) one();
    this.saver.close();
    this.player.close();
  }
}

function difference(doc, theirs) {
  const mine = new Set(doc.segments.map(({ start, text, speaker }) => `${start.toFixed(3)} ${speaker ?? ""} ${text}`));
  return theirs.segments.filter(({ start, text, speaker }) => !mine.has(`${start.toFixed(3)} ${speaker ?? ""} ${text}`)).length;
}
