// What is asked of every file: the form above the place to drop them, kept in this browser.

import { request } from "../api.js";
import { el, field, fill, select } from "../dom.js";
import { language } from "../text.js";
import { LANGUAGES } from "./languages.js";

const KEPT = "tympan.options";
const DEFAULTS = {
  language: "", model: "", task: "transcribe", word_timestamps: true, diarize: false, num_speakers: "", vad: true, prompt: "", hotwords: "",
};
const CROWDS = [["", "Detect"], ...[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map((count) => [String(count), String(count)])];
const TASKS = [["transcribe", "Text in the language spoken"], ["translate", "Text in English"]];

/** Returns the options as they were chosen last; unknown ones are left out. */
export function kept() {
  let known = {};
  try {
    known = JSON.parse(localStorage.getItem(KEPT)) ?? {};
  } catch { /* Another version's, or cleared by hand. */ }
  const same = Object.entries(DEFAULTS).map(([name, usual]) => [name, typeof known[name] === typeof usual ? known[name] : usual]);
  return Object.fromEntries(same);
}

/** Returns the fields of a job for these options: those that say something. */
export function fields(options) {
  const found = {};
  for (const name of ["language", "model", "prompt", "hotwords"]) if (options[name].trim()) found[name] = options[name].trim();
  if (options.task !== "transcribe") found.task = options.task;
  if (options.word_timestamps) found.word_timestamps = true;
  if (options.diarize) found.diarize = true;
  if (options.diarize && options.num_speakers) found.num_speakers = Number(options.num_speakers);
  if (!options.vad) found.vad = false;
  return found;
}

/** Returns the options in a line: `German, base, speakers`. */
export function digest(options) {
  return [
    options.language ? language(options.language) : "language detected",
    options.model,
    options.task === "translate" && "into English",
    options.word_timestamps && "word times",
    options.diarize && (options.num_speakers ? `${options.num_speakers} speakers` : "speakers"),
    !options.vad && "pauses kept",
    (options.prompt || options.hotwords) && "with hints",
  ].filter(Boolean).join(", ");
}

/** Returns the form, and what reads it: `{node, read}`. */
export function optionsForm() {
  const now = kept();
  const parts = {
    language: select([["", "Detect"], ...languages()], now.language),
    model: select([["", "Default"]], ""),
    task: select(TASKS, now.task),
    word_timestamps: check(now.word_timestamps),
    diarize: check(now.diarize),
    num_speakers: select(CROWDS, now.num_speakers),
    vad: check(now.vad),
    prompt: el("textarea", { rows: 2, maxlength: 10000, value: now.prompt }),
    hotwords: el("input", { type: "text", maxlength: 2000, value: now.hotwords }),
  };
  const read = () => Object.fromEntries(Object.entries(parts).map(([name, node]) => [name, node.type === "checkbox" ? node.checked : node.value]));
  const more = el("summary", {});
  const tell = () => { more.textContent = `More options: ${hints(read()) || "speakers, silence, hints"}`; };
  const node = el("section", { class: "card options", "aria-label": "Options", on: { change: () => { keep(read()); tell(); } } },
    el("div", { class: "grid" },
      field("Language spoken", parts.language), field("Model", parts.model), field("Result", parts.task)),
    el("details", {}, more, el("div", { class: "stack more" },
      el("div", { class: "row wrap" },
        box(parts.word_timestamps, "Word times"), box(parts.diarize, "Tell speakers apart"), box(parts.vad, "Leave out silence")),
      el("div", { class: "grid" },
        field("How many speakers", parts.num_speakers, "Used only with “Tell speakers apart”."),
        field("Prompt", parts.prompt, "Sample text in the style, names and spelling you want."),
        field("Words to expect", parts.hotwords, "Names and terms, separated by commas.")))));
  tell();
  fillModels(parts.model, now.model);
  return { node, read };
}

function hints(options) {
  return [
    options.word_timestamps ? "word times" : "",
    options.diarize ? "speakers" : "",
    options.vad ? "" : "silence kept",
    options.prompt || options.hotwords ? "hints" : "",
  ].filter(Boolean).join(", ");
}

function keep(options) {
  localStorage.setItem(KEPT, JSON.stringify(options));
}

function check(checked) {
  return el("input", { type: "checkbox", checked });
}

function box(control, title) {
  return el("label", { class: "check" }, control, title);
}

function languages() {
  const called = (code, name) => (language(code) === code ? name : language(code));
  return LANGUAGES.map(([code, name]) => [code, called(code, name)]).sort(([, one], [, other]) => one.localeCompare(other));
}

/** Lists what the server serves; a model that was chosen and is gone is not chosen any more. */
async function fillModels(node, chosen) {
  const { data } = await request("GET", "/v1/models").catch(() => ({ data: [] }));
  const models = data.filter((model) => model.id === model.served_as);
  const usual = models.find((model) => model.default);
  const choices = models.map(({ id, state }) => [id, state === "failed" ? `${id} (out of order)` : id]);
  fill(node, [["", usual ? `Default (${usual.id})` : "Default"], ...choices].map(([value, title]) =>
    el("option", { value, text: title, selected: value === chosen })));
}
