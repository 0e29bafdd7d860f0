// A golden set: its word error rate over time with the band in which it lies, verdicts, canaries; a run's worst utterances.

import { request } from "../api.js";
import { dialog, el, fill } from "../dom.js";
import { ago, moment, number } from "../text.js";
import { chart } from "./charts.js";
import { card, commandLine, nothing, table, tag, trouble } from "./parts.js";
import { counted, percentage } from "./units.js";

const VERDICTS = {
  no_worse: ["no worse", "good"], worse: ["worse", "bad"], not_compared: ["not compared", ""], running: ["running", "busy"], failed: ["failed", "bad"],
};
const ROWS = 12;
const WORST = 10;
const MODELS = 4;
const TONES = [1, 2, 3, 4];
const DASHES = [null, "5 4", "2 3", "8 3 2 3"];

const unix = (text) => Date.parse(text) / 1000;
const verdict = (run) => tag(...(run.is_baseline && run.verdict === "not_compared" ? ["baseline", "busy"] : VERDICTS[run.verdict] ?? [run.verdict, ""]));
const modelOf = (run) => run.model ?? run.asked_model ?? "default";

/** Returns the card of one set, as /v1/quality tells of it. */
export function setCard(found) {
  const measured = found.runs.filter((run) => Number.isFinite(run.wer_percent)).reverse();
  const last = found.runs[0];
  return card(found.name, last ? verdict(last) : tag("not measured yet"),
    el("p", { class: "soft small", text: plan(found) }),
    measured.length ? [figures(measured.at(-1)), werChart(found, measured), canaries(found, measured)] : unmeasured(found),
    found.runs.length ? runs(found) : null);
}

function plan(found) {
  const when = found.schedule ? `by itself (${found.schedule}, UTC)${found.next_run_at ? `, next ${moment(found.next_run_at)}` : ""}` : "only by hand";
  const what = `${counted(found.clips, "clip")}${found.sample ? `, ${found.sample} of speech in a scheduled run` : ""}`;
  return `Version ${found.version} · ${what} · measures ${found.model ?? "the default model"} · ${when}`;
}

function unmeasured(found) {
  const isOn = found.runs.some((run) => run.state === "running");
  if (isOn) return nothing("It is being measured now; the first figures come when the run has ended.");
  return nothing(found.runs.length ? "No run has succeeded in this period." : "It has not been measured yet. Wait for its schedule, or measure now with:", commandLine(`tympan quality run ${found.name}`));
}

function figures(run) {
  const [low, high] = run.wer_interval_percent ?? [null, null];
  const tiles = [
    ["Word errors", percentage(run.wer_percent), low === null ? "no interval was kept" : `95 %: ${percentage(low)} to ${percentage(high)}`],
    ["Character errors", percentage(run.cer_percent), `${counted(run.words ?? 0, "word")} said`],
    ["Text from silence", run.silent_clips ? `${run.hallucinated_clips} of ${run.silent_clips}` : "–", run.silent_clips ? `canaries: ${percentage(run.hallucination_percent)}` : "no clips without speech in this set"],
    ["Against the baseline", points(run.comparison), run.is_baseline ? "this run is the baseline" : interval(run.comparison)],
  ];
  return el("div", { class: "tiles few" }, tiles.map(([title, value, below]) => el("div", { class: "tile" },
    el("span", { class: "tile-title", text: title }), el("span", { class: "tile-value number", text: value }), el("span", { class: "tile-below", text: below }))));
}

const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : "±"}${number(Math.abs(value), 1)}`;
const points = (found) => (Number.isFinite(found?.difference_points) ? `${signed(found.difference_points)} points` : "–");
const interval = (found) => (Number.isFinite(found?.low_points) ? `99 %: ${signed(found.low_points)} to ${signed(found.high_points)}` : "not compared");

/** Word errors over time, a line for each model that was measured. */
function werChart(found, measured) {
  const names = [...new Set(measured.map(modelOf))].slice(-MODELS);
  const of = (run, name, value) => (modelOf(run) === name ? value : null);
  const made = chart({
    title: "Word errors over time", named: true, dots: true, format: percentage, least: 5, height: 200,
    series: names.map((name, i) => ({ name, tone: TONES[i], dash: DASHES[i] })),
    note: (i) => `${measured[i].is_baseline ? "baseline, " : ""}${(VERDICTS[measured[i].verdict] ?? [""])[0]}`,
  });
  const xs = measured.map((run) => unix(run.created_at));
  made.show(names.length > 1 ? parted(measured, names, xs) : {
    xs, rows: names.map((name) => measured.map((run) => of(run, name, run.wer_percent))),
    bands: names.map(() => measured.map((run) => run.wer_interval_percent ?? [null, null])),
  });
  return made.node;
}

/** Runs of several models take turns, so each line goes on from its last value over the runs of the others. */
function parted(measured, names, xs) {
  const along = (name, value) => {
    let last = null;
    return measured.map((run) => { if (modelOf(run) === name) last = value(run); return last; });
  };
  return { xs, rows: names.map((name) => along(name, (run) => run.wer_percent)), bands: names.map((name) => along(name, (run) => run.wer_interval_percent ?? [null, null]).map((band) => band ?? [null, null])) };
}

function canaries(found, measured) {
  const some = measured.filter((run) => run.silent_clips);
  if (some.length < 2) return null;
  const made = chart({ title: "Canaries: clips without speech that got text", dots: true, format: percentage, least: 10, height: 120, series: [{ name: "got text", tone: 5 }] });
  made.show({ xs: some.map((run) => unix(run.created_at)), rows: [some.map((run) => run.hallucination_percent)] });
  return made.node;
}

function runs(found) {
  const shown = found.runs.slice(0, ROWS);
  const head = ["Began", "Model", "Verdict", ["Word errors", "number"], ["Against baseline", "number"], ["Text from silence", "number"], ["Failed", "number"], ""];
  return el("details", {}, el("summary", { text: `Runs (${found.runs.length}${found.has_more ? "+" : ""})` }),
    table(`Runs of ${found.name}`, head, shown.map((run) => [
      el("span", { title: moment(run.created_at), text: ago(run.created_at) }), el("span", { class: "wrap-anywhere", text: modelOf(run) }), verdict(run),
      percentage(run.wer_percent ?? NaN), points(run.comparison), run.silent_clips ? `${run.hallucinated_clips}/${run.silent_clips}` : "–", `${run.failed}/${run.clips}`,
      run.state === "running" ? "" : el("button", { class: "button small", type: "button", "aria-label": `Worst clips of the run of ${moment(run.created_at)}`, text: "Worst clips", on: { click: () => worst(run) } }),
    ])), found.runs.length > ROWS && el("p", { class: "soft small", text: `The last ${ROWS} of ${found.runs.length}.` }));
}

async function worst(run) {
  const place = el("div", { class: "stack" }, el("p", { class: "soft", text: "Loading…" }));
  const box = dialog(`Worst clips: ${run.golden_set}`, el("p", { class: "soft small", text: `${modelOf(run)}, ${moment(run.created_at)}. Struck out: said and not heard. Underlined: heard and not said.` }), place,
    el("div", {}, el("button", { class: "button", type: "button", text: "Close", on: { click: () => box.close() } })));
  box.classList.add("wide");
  try {
    const found = await request("GET", `/v1/quality/runs/${encodeURIComponent(run.id)}`, { query: { limit: WORST } });
    fill(place, found.worst.length ? found.worst.map(utterance) : el("p", { text: "No clip of this run went wrong, or its details are no longer kept." }));
  } catch (error) {
    fill(place, trouble(error));
  }
}

function utterance(each) {
  const head = each.error ? each.error : each.reference ? `${counted(each.errors, "error")} in ${counted(each.words, "word")}` : "text where nothing was said";
  return el("div", { class: "stack tight" }, el("div", { class: "row wrap" }, el("b", { class: "wrap-anywhere", text: each.item }), tag(head, "warn")),
    el("p", { class: "utterance", lang: each.language }, each.alignment.map(chunk)));
}

function chunk({ kind, reference, heard }) {
  if (kind === "equal") return `${reference.join(" ")} `;
  return [reference.length && el("del", { text: reference.join(" ") }), " ", heard.length && el("ins", { text: heard.join(" ") }), " "];
}
