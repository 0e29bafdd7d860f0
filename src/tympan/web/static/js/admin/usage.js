// Admin, usage: what was used by day, split by kind of work, model or tenant; as a chart, as a table, as a file.

import { call, key, request } from "../api.js";
import { el, fill, notice, select } from "../dom.js";
import { chart } from "../operate/charts.js";
import { busily, card, nothing, table, told } from "../operate/parts.js";
import { plain, seconds } from "../operate/units.js";
import { number } from "../text.js";

const EVERYBODY = "*";
const MOST_PARTS = 7;
const PERIODS = [["6", "7 days"], ["29", "30 days"], ["89", "90 days"], ["364", "a year"]];
const KINDS = { sync: "calls", job: "jobs", live: "live" };
const SPLITS = [["kind", "by kind of work"], ["model", "by model"], ["tenant", "by tenant"]];
const MEASURES = [["audio_s", "minutes of audio"], ["requests", "requests"], ["failures", "failures"], ["processing_s", "minutes of work"]];
const IN_MINUTES = new Set(["audio_s", "processing_s"]);

const chosen = { period: "29", split: "kind", measure: "audio_s", tenant: EVERYBODY };
const dayOf = (time) => new Date(time).toISOString().slice(0, 10);

/** Shows it in `root` until `signal` says that the view is left. */
export function show(root, signal) {
  const place = { signal, body: el("div", { class: "stack" }, el("p", { class: "soft", text: "Loading…" })) };
  const choice = (name, entries, label, onChange) => {
    const box = select(entries, chosen[name], { "aria-label": label, class: "narrow", on: { change: () => { chosen[name] = box.value; onChange(place); } } });
    return box;
  };
  const tenant = el("input", { type: "search", class: "narrow", "aria-label": "Tenant", placeholder: "every tenant", maxlength: "64", value: chosen.tenant === EVERYBODY ? "" : chosen.tenant,
    on: { change: () => { chosen.tenant = tenant.value.trim() || EVERYBODY; load(place); } } });
  const save = el("button", { class: "button", type: "button", text: "Download CSV", on: { click: () => download(save) } });
  fill(root, card("Usage", save,
    el("div", { class: "row wrap filters" }, choice("period", PERIODS, "Period", load), tenant, choice("measure", MEASURES, "What is counted", paint), choice("split", SPLITS, "Split", paint)), place.body));
  load(place);
}

const period = () => ({ from: dayOf(Date.now() - Number(chosen.period) * 86_400_000), to: dayOf(Date.now()), tenant: chosen.tenant });

async function load(place) {
  await told(place.body, place.signal, async () => {
    place.answer = await asked(place);
    paint(place);
  });
}

/** Asks for every tenant's; who may not see that gets what is their own. */
async function asked(place) {
  const ask = (query) => request("GET", "/v1/usage", { query, signal: place.signal });
  try {
    return await ask(period());
  } catch (error) {
    if (error.status !== 403 || chosen.tenant !== EVERYBODY || !key.get()) throw error;
    return { ...await ask({ ...period(), tenant: "" }), isOwn: true };
  }
}

function paint(place) {
  const { first, last, data, isOwn } = place.answer ?? {};
  if (!data) return;
  const note = isOwn ? el("p", { class: "note", text: "This is what the tenant of your key has used; the scope admin shows every tenant's." }) : null;
  if (!data.length) return fill(place.body, note, nothing("Nothing was used in this period. Transcriptions appear here a few seconds after they finish."));
  const parts = splitBy(data, chosen.split, chosen.measure);
  fill(place.body, note, totals(data), drawn(parts, days(first, last)), sums(data));
}

const part = (row, split) => (split === "kind" ? KINDS[row.kind] ?? row.kind : row[split]) || "–";
const amount = (row, measure) => (IN_MINUTES.has(measure) ? row[measure] / 60 : row[measure]);

/** Returns `[name, Map(day -> amount)]`, the largest first; what comes after the first few is one part. */
function splitBy(rows, split, measure) {
  const found = new Map();
  for (const row of rows) {
    const name = part(row, split);
    if (!found.has(name)) found.set(name, new Map());
    found.get(name).set(row.day, (found.get(name).get(row.day) ?? 0) + amount(row, measure));
  }
  const sum = (byDay) => [...byDay.values()].reduce((all, value) => all + value, 0);
  const sorted = [...found].sort(([, a], [, b]) => sum(b) - sum(a));
  const rest = sorted.slice(MOST_PARTS).reduce((all, [, byDay]) => {
    byDay.forEach((value, day) => all.set(day, (all.get(day) ?? 0) + value));
    return all;
  }, new Map());
  return rest.size ? [...sorted.slice(0, MOST_PARTS), ["all others", rest]] : sorted;
}

function days(first, last) {
  const found = [];
  for (let at = Date.parse(first); at <= Date.parse(last); at += 86_400_000) found.push(dayOf(at));
  return found;
}

function drawn(parts, xs) {
  const [, measure] = MEASURES.find(([name]) => name === chosen.measure);
  const made = chart({
    title: `${measure[0].toUpperCase()}${measure.slice(1)} a day (UTC)`, categories: true, stack: true, named: true, format: plain, label: shortDay, first: "Day", height: 220, least: 1,
    series: parts.map(([name], i) => ({ name, tone: i + 1 })),
  });
  made.show({ xs, rows: parts.map(([, byDay]) => xs.map((day) => byDay.get(day) ?? 0)) });
  return made.node;
}

const shortDay = (day) => new Date(`${day}T12:00:00Z`).toLocaleDateString(undefined, { day: "numeric", month: "short", timeZone: "UTC" });
const all = (rows, name) => rows.reduce((sum, row) => sum + row[name], 0);

function totals(rows) {
  const failed = all(rows, "failures");
  const tiles = [
    ["Requests", number(all(rows, "requests")), failed ? `${number(failed)} failed` : "none failed"],
    ["Audio", seconds(all(rows, "audio_s")), "of those that succeeded"],
    ["Work", seconds(all(rows, "processing_s")), all(rows, "processing_s") ? `${plain(all(rows, "audio_s") / all(rows, "processing_s"))}× real time` : "none"],
  ];
  return el("div", { class: "tiles few" }, tiles.map(([title, value, below]) => el("div", { class: "tile" },
    el("span", { class: "tile-title", text: title }), el("span", { class: "tile-value number", text: value }), el("span", { class: "tile-below", text: below }))));
}

/** Sums for each tenant, kind and model. */
function sums(rows) {
  const groups = Map.groupBy(rows, (row) => JSON.stringify([row.tenant, row.kind, row.model]));
  const lines = [...groups.values()].sort((a, b) => all(b, "audio_s") - all(a, "audio_s"));
  return table("Sums of the period", ["Tenant", "Work", "Model", ["Requests", "number"], ["Failed", "number"], ["Audio", "number"], ["Work time", "number"]], lines.map((group) => [
    el("span", { class: "wrap-anywhere", text: group[0].tenant }), KINDS[group[0].kind] ?? group[0].kind, el("span", { class: "wrap-anywhere", text: group[0].model || "–" }),
    number(all(group, "requests")), number(all(group, "failures")), seconds(all(group, "audio_s")), seconds(all(group, "processing_s")),
  ]));
}

async function download(button) {
  await busily(button, async () => {
    const query = { ...period(), format: "csv" };
    const answer = await call("GET", "/v1/usage", { query }).catch((error) => {
      if (error.status !== 403 || chosen.tenant !== EVERYBODY) throw error;
      return call("GET", "/v1/usage", { query: { ...query, tenant: "" } });
    });
    const url = URL.createObjectURL(await answer.blob());
    el("a", { href: url, download: `tympan-usage-${query.from}-${query.to}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }, (error) => notice(error.message, "bad"));
}
