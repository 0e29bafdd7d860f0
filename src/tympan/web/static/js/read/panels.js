// What stands beside the text: who speaks, what is marked, and where the time code begins.

import { el, field, fill, select } from "../dom.js";
import { clock, percent, span } from "../text.js";
import { keep } from "./marks.js";
import { nameOf, speakersOf } from "./model.js";
import { parsedTime } from "./cues.js";

/** The speakers: colour, name to be changed, share of the time. */
export class Speakers {
  #desk;

  constructor(desk) {
    this.#desk = desk;
    this.body = el("div", { class: "stack tight" });
    this.node = el("section", { class: "card stack tight", "aria-labelledby": "read-speakers" }, el("h2", { id: "read-speakers", text: "Speakers" }), this.body);
  }

  /** Shows the speakers of a document, with names that can be changed or not. */
  show(doc, isEditable) {
    if (this.body.contains(document.activeElement) && document.activeElement.matches("input") && !this.isDue(doc)) return;
    this.labels = speakersOf(doc).join("\n");
    const spoken = new Map();
    for (const { speaker, start, end } of doc.segments) if (speaker) spoken.set(speaker, (spoken.get(speaker) ?? 0) + end - start);
    const total = [...spoken.values()].reduce((sum, one) => sum + one, 0) || 1;
    const labels = speakersOf(doc);
    fill(this.body, labels.map((label) => this.#row(label, doc, { isEditable, share: (spoken.get(label) ?? 0) / total, time: spoken.get(label) ?? 0 })),
      !labels.length && el("p", { class: "small soft", text: "No speakers yet. Choose a segment and “New speaker”, or transcribe the file again with “Tell speakers apart”." }));
  }

  isDue(doc) { return this.labels !== speakersOf(doc).join("\n"); }

  #row(label, doc, { isEditable, share, time }) {
    const name = el("input", { type: "text", value: doc.speakers[label] ?? "", placeholder: nameOf(label, { speakers: {} }), maxlength: 64, dir: "auto", disabled: !isEditable,
      "aria-label": `Name of ${nameOf(label, { speakers: {} })}`, autocomplete: "off",
      on: { change: () => this.#desk.manuscript.rename(label, name.value), keydown: (event) => { if (event.key === "Enter") name.blur(); } } });
    const others = speakersOf(doc).filter((one) => one !== label);
    const unite = isEditable && others.length > 0 && select([["", "⋯"], ...others.map((one) => [one, `Same person as ${nameOf(one, doc)}`])], "",
      { class: "unite", "aria-label": `${nameOf(label, doc)} is the same person as`, on: { change: () => unite.value && this.#desk.manuscript.unite(label, unite.value) } });
    return el("div", { class: "row speaker", data: { who: this.#desk.colourOf(label) } }, el("span", { class: "dot", "aria-hidden": "true" }), name,
      el("span", { class: "small soft number share", title: span(time), text: percent(share, 0) }), unite);
  }
}

/** The legend, with a switch for each kind of mark, and where the time code begins. `changed()` shows the marks anew. */
export function marksPanel(desk, changed) {
  const { marks, isRated, isTimed } = desk;
  const apply = () => { keep(marks); changed(); };
  const box = (name, sample, title) => {
    const input = el("input", { type: "checkbox", checked: marks[name], on: { change: () => { marks[name] = input.checked; apply(); } } });
    return el("label", { class: "check" }, input, el("span", {}, el("span", { class: sample, text: title })));
  };
  const below = el("output", { class: "small number", text: percent(marks.doubt, 0) });
  const doubt = el("input", { type: "range", min: 0.1, max: 0.95, step: 0.05, value: marks.doubt, "aria-label": "Unsure below", on: {
    input: () => { below.textContent = percent(Number(doubt.value), 0); },
    change: () => { marks.doubt = Number(doubt.value); apply(); } } });
  const left = el("p", { class: "small soft number", "aria-live": "polite" });
  const node = el("section", { class: "card stack tight", "aria-labelledby": "read-marks" }, el("h2", { id: "read-marks", text: "Marks" }),
    box("words", "sample low", isTimed ? "Words the model was unsure of" : "Segments the model was unsure of"),
    isTimed && el("div", { class: "row small" }, "below", doubt, below),
    box("madeUp", "sample doubted", "Text that may have been made up"),
    box("speakers", "sample", "Colours of speakers"),
    !isTimed && el("p", { class: "small soft", text: "This job was made without word times: the word that plays is an estimate, and words are not rated. Transcribe it again with “Word times” to get both." }),
    !isRated && el("p", { class: "small soft", text: "This model gives no probabilities." }),
    left, el("p", { class: "small soft" }, el("kbd", { text: "N" }), " goes to the next one"));
  return { node, count: (words, segments) => { left.textContent = `${words} unsure ${words === 1 ? "word" : "words"}, ${segments} doubtful ${segments === 1 ? "segment" : "segments"}`; } };
}

/** A field for the time code at which the recording begins, such as 10:00:00. */
export function offsetPanel(desk, changed) {
  const input = el("input", { type: "text", value: desk.offset ? clock(desk.offset) : "", placeholder: "0:00:00", inputmode: "numeric", autocomplete: "off", on: { change: () => {
    const seconds = input.value.trim() ? parsedTime(input.value) : 0;
    input.setCustomValidity(seconds === null ? "A time like 10:00:00" : "");
    input.reportValidity();
    if (seconds === null) return;
    desk.offset = seconds;
    changed();
  } } });
  return el("section", { class: "card stack tight" }, field("Time code at the start", input, "Added to all times shown, copied and exported as srt, vtt and tsv."));
}

/** What is known of the job, as a list of tags. */
export function facts(job, { duration, language, model }, names) {
  return [duration && span(duration), names(language), model || job.model].filter(Boolean).map((text) => el("span", { class: "tag", text }));
}
