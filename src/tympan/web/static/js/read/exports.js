// Taking a transcript along: as a file in any format, subtitles cut as one likes, with a look at every cue before.

import { call } from "../api.js";
import { dialog, el, field, fill, notice, select } from "../dom.js";
import { clock, number } from "../text.js";
import { cuesOf, moved, prose } from "./cues.js";
import { speakersOf } from "./model.js";

const FORMATS = [["txt", "Text (.txt)"], ["docx", "Word (.docx)"], ["srt", "Subtitles (.srt)"], ["vtt", "Web subtitles (.vtt)"],
  ["tsv", "Table (.tsv)"], ["json", "Data (.json)"]];
const ASKED = { txt: "text", json: "verbose_json" };
const SHAPED = ["srt", "vtt"];
const SHAPE = "tympan.shape";
const PAGE = 50;
const WAIT_MS = 350;

const FIELDS = [
  ["max_line_width", "Characters per line", { min: 4, max: 100, step: 1 }, 42],
  ["max_line_count", "Lines", { min: 1, max: 4, step: 1 }, 2],
  ["min_cue_s", "Shortest, in seconds", { min: 0, max: 10, step: 0.1 }, 1],
  ["max_cue_s", "Longest, in seconds", { min: 0.5, max: 30, step: 0.5 }, 7],
  ["max_chars_per_s", "Characters per second", { min: 5, max: 50, step: 1 }, 20],
];

/** Opens the dialog. `desk` is what `reader.js` makes. */
export function openExports(desk) {
  const state = new Exports(desk);
  const box = dialog("Export", state.node);
  box.classList.add("exports");
  box.addEventListener("close", () => state.close());
  state.refresh();
}

class Exports {
  #desk;
  #stop = new AbortController();
  #timer = 0;
  #cues = [];
  #from = 0;
  #shape;

  constructor(desk) {
    this.#desk = desk;
    this.#shape = { isOn: true, ...Object.fromEntries(FIELDS.map(([name, , , value]) => [name, value])), ...JSON.parse(localStorage.getItem(SHAPE) ?? "{}") };
    this.node = this.#build();
  }

  #build() {
    const { manuscript, version } = this.#desk;
    const changed = { change: () => this.refresh() };
    this.format = select(FORMATS, localStorage.getItem("tympan.format") ?? "docx", { on: changed });
    this.version = select([["edited", "Edited"], ["original", "Original"]], version === "original" || !manuscript.isEdited ? "original" : "edited",
      { disabled: !manuscript.isEdited, on: changed });
    this.isProse = el("input", { type: "checkbox", checked: localStorage.getItem("tympan.prose") === "1", on: changed });
    this.prose = el("label", { class: "check" }, this.isProse, "Names and time codes");
    this.isCut = el("input", { type: "checkbox", checked: this.#shape.isOn, on: changed });
    this.inputs = FIELDS.map(([name, title, limits]) => [name, title, el("input", { type: "number", ...limits, value: this.#shape[name], on: { input: () => this.#soon() } })]);
    this.shape = el("div", { class: "stack tight" }, el("label", { class: "check" }, this.isCut, "Cut for the screen (otherwise a segment is a subtitle)"),
      el("div", { class: "shape-fields" }, this.inputs.map(([, title, input]) => field(title, input))));
    this.offset = el("p", { class: "small soft" });
    this.fault = el("p", { class: "note bad", role: "alert", hidden: true });
    this.preview = el("div", { class: "preview", tabindex: 0, role: "region", "aria-label": "Preview", "aria-live": "off" });
    const button = (text, click, kind = "") => el("button", { class: `button ${kind}`, type: "button", text, on: { click } });
    return el("div", { class: "stack" },
      el("div", { class: "export-head" }, field("Format", this.format), field("Version", this.version)),
      this.prose, this.shape, this.offset, this.fault, this.preview,
      el("div", { class: "row wrap" }, button("Download", () => this.#download(), "main"), this.copy = button("Copy", () => this.#copy()),
        button("Close", () => this.node.closest("dialog").close())));
  }

  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.refresh(), WAIT_MS);
  }

  get #isShaped() { return SHAPED.includes(this.format.value); }

  #query(format = this.format.value) {
    const shape = this.#isShaped && this.isCut.checked ? Object.fromEntries(this.inputs.map(([name, , input]) => [name, input.value])) : {};
    return { format: ASKED[format] ?? format, ...(this.version.value === "edited" ? { version: "edited" } : {}), ...shape };
  }

  #keep() {
    localStorage.setItem("tympan.format", this.format.value);
    localStorage.setItem("tympan.prose", this.isProse.checked ? "1" : "");
    const kept = Object.fromEntries(this.inputs.map(([name, , input]) => [name, Number(input.value)]));
    localStorage.setItem(SHAPE, JSON.stringify({ isOn: this.isCut.checked, ...kept }));
  }

  /** Shows what fits the choice, and a preview of it. */
  async refresh() {
    this.prose.hidden = this.format.value !== "txt";
    this.shape.hidden = !this.#isShaped;
    this.shape.querySelector(".shape-fields").hidden = !this.isCut.checked;
    this.copy.hidden = this.format.value === "docx";
    const { offset } = this.#desk;
    this.offset.hidden = !offset;
    this.offset.textContent = offset ? `Times begin at ${clock(offset)}${["docx", "json"].includes(this.format.value) ? ", but not in this format" : ""}.` : "";
    this.#keep();
    this.#stop.abort();
    this.#stop = new AbortController();
    try {
      await this.#look(this.#stop.signal);
      this.fault.hidden = true;
    } catch (error) {
      if (error.name !== "AbortError") this.#fail(error);
    }
  }

  #fail(error) {
    this.fault.hidden = false;
    this.fault.textContent = error.message;
  }

  async #look(signal) {
    if (this.format.value === "docx") {
      fill(this.preview, el("p", { class: "soft", text: "A document with the title, and for each segment its time, speaker and text." }));
      return;
    }
    this.preview.setAttribute("aria-busy", "true");
    const text = await this.#text(signal, this.#isShaped ? "srt" : this.format.value);
    this.preview.removeAttribute("aria-busy");
    if (!this.#isShaped) { fill(this.preview, el("pre", { dir: "auto", text: text.slice(0, 4000) + (text.length > 4000 ? "\n…" : "") })); return; }
    this.#cues = cuesOf(text);
    const now = this.#cues.findIndex(({ end }) => end > this.#desk.player.time + this.#desk.offset);
    this.#from = Math.max(0, now - 1);
    this.#showCues();
  }

  async #text(signal, format = this.format.value) {
    const { manuscript, offset, job } = this.#desk;
    await this.#saved();
    if (format === "txt" && this.isProse.checked) {
      const doc = this.version.value === "edited" ? manuscript.doc : manuscript.original;
      return `${prose(doc.segments, doc, { times: true, start: offset })}\n`;
    }
    const answer = await call("GET", `/v1/jobs/${encodeURIComponent(job.id)}/result`, { query: this.#query(format), signal });
    return moved(await answer.text(), format, offset);
  }

  #showCues() {
    const most = Number(this.inputs.at(-1)[2].value);
    const { manuscript } = this.#desk;
    const doc = this.version.value === "edited" ? manuscript.doc : manuscript.original;
    const names = new Set(speakersOf(doc).flatMap((label) => [label, doc.speakers[label] ?? label]));
    const rates = this.#cues.map((cue) => speed(cue, names));
    const fast = rates.filter((rate) => rate > most + 0.05).length;
    const page = (by, text, isOff) => el("button", { class: "button small", type: "button", text, disabled: isOff, on: { click: () => { this.#from = Math.max(0, this.#from + by); this.#showCues(); } } });
    const shown = this.#cues.slice(this.#from, this.#from + PAGE);
    fill(this.preview,
      el("div", { class: "row wrap apart" },
        el("p", { class: "small", text: `${number(this.#cues.length)} subtitles` }, fast > 0 && el("span", { class: "tag warn", text: `${number(fast)} faster than ${most} characters per second` })),
        el("div", { class: "row" }, page(-PAGE, "Earlier", this.#from === 0), page(PAGE, "Later", this.#from + PAGE >= this.#cues.length))),
      el("ol", { class: "cues", start: this.#from + 1 }, shown.map((cue, at) => cueNode(cue, rates[this.#from + at], most))));
  }

  #name() {
    const base = this.#desk.title.replace(/\.[a-z0-9]{2,4}$/i, "").replace(/[\\/:*?"<>|\u0000-\u001f]/g, "_").slice(0, 120) || this.#desk.job.id;
    return `${base}.${this.format.value}`;
  }

  async #download() {
    try {
      const blob = this.format.value === "docx" ? await this.#binary() : new Blob([await this.#text()], { type: "text/plain;charset=utf-8" });
      const url = URL.createObjectURL(blob);
      el("a", { href: url, download: this.#name() }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      this.#fail(error);
    }
  }

  async #binary() {
    await this.#saved();
    return (await call("GET", `/v1/jobs/${encodeURIComponent(this.#desk.job.id)}/result`, { query: this.#query() })).blob();
  }

  /** The server writes the file, so it has to have the last change. */
  async #saved() {
    const { saver } = this.#desk;
    if (this.version.value !== "edited") return;
    await saver.flush();
    if (saver.isPending) throw new Error(`Your last changes are not saved yet, and would be missing. ${saver.error?.message ?? ""}`);
  }

  async #copy() {
    try {
      await copyText(await this.#text());
    } catch (error) {
      this.#fail(error);
    }
  }

  close() {
    clearTimeout(this.#timer);
    this.#stop.abort();
  }
}

/** Returns how many characters a second a cue is read with; the name before the text is not counted, nor was it in cutting. */
function speed({ start, end, lines }, names) {
  const text = lines.join(" ");
  const at = text.indexOf(": ");
  const said = at > 0 && names.has(text.slice(0, at)) ? text.slice(at + 2) : text;
  return said.length / Math.max(0.001, end - start);
}

function cueNode({ start, end, lines }, rate, most) {
  return el("li", {}, el("div", { class: "row wrap small soft number" }, `${clock(start)}.${Math.floor((start % 1) * 10)}`, ` ${(end - start).toFixed(1)} s`,
    el("span", { class: rate > most + 0.05 ? "tag warn" : "", text: `${Math.round(rate)} characters per second` }),
    `widest line ${Math.max(...lines.map((line) => line.length), 0)}`),
    el("p", { class: "screen", dir: "auto", text: lines.join("\n") }));
}

/** Puts text on the clipboard and says so. Where the browser has no clipboard for pages without https, an older way is
 *  taken. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", { class: "unseen", value: text, "aria-hidden": "true" });
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const isDone = document.execCommand("copy");
    area.remove();
    if (!isDone) { notice("The browser does not let this page copy. Export a file instead.", "warn"); return; }
  }
  notice("Copied.", "good");
}
