// The tools of the segment that is selected, and the field in which its text is changed.

import { el, fill, notice, select } from "../dom.js";
import { nameOf, newLabel, speakersOf } from "./model.js";

const NEW = "\u0000new";
const NOBODY = "\u0000nobody";

/** Lets a person change segments. `desk` is what `reader.js` makes; `copy(segments)` copies with time codes. */
export class Editor {
  #desk;
  #list;
  #open = null;

  constructor(desk, list) {
    this.#desk = desk;
    this.#list = list;
    this.tools = el("div", { class: "seg-tools", role: "toolbar", "aria-label": "This segment" });
    list.addEventListener("select", ({ detail }) => this.#moved(detail));
    list.addEventListener("open", ({ detail }) => this.open(detail.index, detail.place));
  }

  get isOpen() { return Boolean(this.#open); }

  #moved(at) {
    if (this.#open && this.#open.at !== at) this.commit();
    this.refresh();
  }

  /** Shows the tools at the selected segment. */
  refresh() {
    const at = this.#list.selected;
    if (at < 0) { this.tools.remove(); return; }
    const item = this.#list.item(at);
    fill(this.tools, this.#open?.at === at ? this.#writing() : this.#reading(at));
    if (this.tools.parentElement !== item.text.parentElement) item.text.after(this.tools);
  }

  #button(text, title, click) {
    // The field keeps the focus: it would be saved and gone before the button is heard.
    return el("button", { class: "button quiet small", type: "button", text, title, on: { click, pointerdown: (event) => { if (this.#open) event.preventDefault(); } } });
  }

  #reading(at) {
    const { copy, link } = this.#desk;
    return [
      this.#button("Edit", "Change the text (E)", () => this.open(at)),
      this.#speaker(at),
      at + 1 < this.#list.length && this.#button("Join next", "Join with the segment below (M)", () => this.merge(at)),
      this.#button("Copy", "Copy with time code (C)", () => copy([this.#list.doc.segments[at]])),
      this.#button("Link", "Copy a link to this moment", () => link(this.#list.doc.segments[at].start)),
    ];
  }

  #writing() {
    return [
      this.#button("Save", "Enter", () => this.commit({ focus: true })),
      this.#button("Split here", "Ctrl+Enter", () => this.split()),
      this.#button("Cancel", "Escape", () => this.cancel()),
      el("span", { class: "small soft keys-hint", text: "Enter saves · Ctrl+Enter splits · Alt+↑↓ next · Alt+K plays · Esc cancels" }),
    ];
  }

  #speaker(at) {
    const { doc } = this.#list;
    const { speaker } = doc.segments[at];
    const choices = [[NOBODY, "No speaker"], ...speakersOf(doc).map((label) => [label, nameOf(label, doc)]), [NEW, "New speaker"]];
    const box = select(choices, speaker ?? NOBODY, { class: "seg-speaker", "aria-label": "Speaker of this segment" });
    box.addEventListener("change", () => {
      const label = box.value === NEW ? newLabel(doc) : box.value === NOBODY ? null : box.value;
      this.#change(at, (manuscript, place) => manuscript.setSpeaker(place, label));
    });
    return box;
  }

  /** Does `work(manuscript, index)` on the edited version, whichever is shown. */
  #change(at, work) {
    const place = this.#desk.editable(at);
    if (place < 0) return;
    work(this.#desk.manuscript, place);
    this.#list.select(Math.min(place, this.#list.length - 1), { focus: true });
  }

  /** Puts a field in the place of a segment's text, its caret at `place`, by default at its end. */
  open(at, place = null) {
    if (this.#open) this.commit();
    const index = this.#desk.editable(at);
    if (index < 0) return;
    this.#list.select(index);
    const item = this.#list.item(index);
    const area = el("textarea", { class: "seg-edit", dir: "auto", rows: 1, spellcheck: "true", value: item.segment.text, "aria-label": "Text of the segment", lang: this.#desk.language || null,
      on: { input: () => grow(area), keydown: (event) => this.#key(event), blur: () => this.#left(area) } });
    item.isEdited = true;
    item.text.hidden = true;
    item.text.before(area);
    this.#open = { at: index, item, area };
    this.refresh();
    grow(area);
    area.focus();
    const caret = place ?? area.value.length;
    area.setSelectionRange(caret, caret);
  }

  #left(area) {
    // A window that loses the focus is not a person who leaves the field.
    if (document.hasFocus() && this.#open?.area === area) this.commit();
  }

  #key(event) {
    if (event.isComposing) return;
    const { area, at } = this.#open;
    const [caret, isPoint] = [area.selectionStart, area.selectionStart === area.selectionEnd];
    const acts = {
      Enter: () => (event.ctrlKey || event.metaKey ? this.split() : this.commit({ focus: true })),
      Escape: () => this.cancel(),
      Backspace: () => isPoint && caret === 0 && at > 0 && this.#mergeHere(at - 1),
      Delete: () => isPoint && caret === area.value.length && at + 1 < this.#list.length && this.#mergeHere(at),
      ArrowUp: () => event.altKey && this.#beside(at - 1),
      ArrowDown: () => event.altKey && this.#beside(at + 1),
    };
    if (!acts[event.key] || acts[event.key]() === false) return;
    event.preventDefault();
    event.stopPropagation();
  }

  #beside(at) {
    const size = this.#list.length;
    this.commit();
    const next = this.#list.length < size && at > this.#list.selected ? at - 1 : at;
    if (next >= 0 && next < this.#list.length) this.open(next);
    return true;
  }

  /** Joins with the segment below; the caret stays where the two meet. */
  #mergeHere(at) {
    this.commit();
    const meet = this.#list.doc.segments[at]?.text.length ?? 0;
    if (this.#desk.manuscript.merge(at)) this.open(at, Math.min(meet + 1, this.#list.doc.segments[at].text.length));
    return true;
  }

  #close() {
    const { item, area } = this.#open;
    this.#open = null;
    item.isEdited = false;
    item.text.hidden = false;
    area.remove();
  }

  /** Takes over what stands in the field. */
  commit({ focus = false } = {}) {
    if (!this.#open) return;
    const { at, area } = this.#open;
    this.#close();
    this.#desk.manuscript.setText(at, area.value);
    if (this.#list.selected >= 0) this.#list.select(Math.min(at, this.#list.length - 1), { focus });
  }

  cancel() {
    if (!this.#open) return;
    const { at } = this.#open;
    this.#close();
    this.#list.select(at, { focus: true });
  }

  /** Divides the segment at the caret. */
  split() {
    if (!this.#open) return;
    const { at, area } = this.#open;
    if (!area.value.slice(0, area.selectionStart).trim() || !area.value.slice(area.selectionStart).trim()) {
      notice("Place the cursor between two words to split the segment there.");
      return;
    }
    const { value, selectionStart } = area;
    this.#close();
    this.#desk.manuscript.split(at, selectionStart, value);
    this.open(at + 1, 0);
  }

  merge(at) {
    this.#change(at, (manuscript, place) => manuscript.merge(place));
  }
}

function grow(area) {
  area.style.setProperty("height", "auto");
  area.style.setProperty("height", `${area.scrollHeight + 2}px`);
}
