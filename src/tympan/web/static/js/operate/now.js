// Operate, now: alarms, load, queue, latency, speed and errors over the last minutes, and the server's parts.
// Rate of requests: /metrics and /health every 5 s, /v1/alarms every 30 s, one at a time each, none while the page is hidden.

import { call, request } from "../api.js";
import { el, fill, select } from "../dom.js";
import { chart, sparkline } from "./charts.js";
import { components, showAlarms } from "./health.js";
import { card, nothing, table, tag, trouble } from "./parts.js";
import { poll } from "./poll.js";
import { parse } from "./prometheus.js";
import { History, reading } from "./readings.js";
import { counted, plain, seconds, share, times, whole } from "./units.js";

const EVERY_MS = 5_000;
const ALARMS_MS = 30_000;
const LEAST_SPAN_S = 120;
const SPARKS = 60;
const LANES = ["live", "interactive", "batch"];
const WINDOWS = [["300", "5 minutes"], ["900", "15 minutes"], ["1800", "30 minutes"], ["3600", "60 minutes"]];

// Kept while the page is open, so that going to another view and back does not lose what was seen.
const history = new History();
let span = "900";
let chosen = null;

const waiting = (one, what) => Object.values(one.lanes).reduce((sum, lane) => sum + lane[what], 0);
const doing = (one) => one.calls_s + one.jobs_s + one.live_s;
const minute = (value) => (Number.isFinite(value) ? value * 60 : null);

/** What is told at a glance: title, value, what stands below, the value of a moment for the small line, and when it is bad. */
const TILES = [
  ["Engine busy", (one) => share(one.busy), (one) => (one.busy === null ? "not known yet, or no engine here" : one.busy > 0.95 ? "no room left" : "of the last 30 s"), (one) => one.busy, (one) => one.busy > 0.95],
  ["Requests", (one) => whole(one.in_house), (one) => `in progress · ${plain(minute(one.requests))} a minute`, (one) => one.in_house],
  ["Waiting", (one) => seconds(waiting(one, "audio_s")), (one) => `of audio, ${counted(waiting(one, "windows"), "window")}`, (one) => waiting(one, "audio_s")],
  ["Predicted wait", (one) => seconds(one.predicted_wait_s), () => "until accepted work is done", (one) => one.predicted_wait_s],
  ["Latency", (one) => seconds(one.latency_p95), (one) => (one.latency_p95 === null ? "no call in the last minute" : `95 of 100; half in ${seconds(one.latency_p50)}`), (one) => one.latency_p95],
  ["Speed", (one) => times(doing(one)), (one) => `real time now${factor(one)}`, doing],
  ["Errors", (one) => (one.requests ? share(one.error_share) : "0 %"), (one) => (one.refusals ? `${plain(minute(one.refusals))} refused a minute` : "of transcription requests"), (one) => one.error_share ?? 0, (one) => one.error_share > 0.05],
  ["First text", (one) => seconds(one.first_live ?? one.first_stream), (one) => (one.live_sessions ? counted(one.live_sessions, "live session") : "95 of 100, live or streamed"), (one) => one.first_live ?? one.first_stream],
];

function factor(one) {
  const found = Object.values(one.factors).filter((value) => value > 0);
  return found.length ? `; one request ${times(Math.min(...found))}` : "";
}

const CHARTS = [
  [{ title: "Engine busy", series: [{ name: "busy", tone: 1 }], format: share, least: 1, empty: "No figures yet. They come after a few seconds, unless this process runs no engine." }, (all) => [all.map((one) => one.busy)]],
  [{ title: "Audio waiting, by lane", stack: true, named: true, format: seconds, least: 10, series: LANES.map((name, i) => ({ name, tone: [5, 4, 2][i] })) }, (all) => LANES.map((lane) => all.map((one) => one.lanes[lane]?.audio_s ?? 0))],
  [{ title: "Latency of calls", format: seconds, series: [{ name: "95 of 100", tone: 1 }, { name: "half", tone: 2, dash: "5 4" }], empty: "No call was answered in this period." }, (all) => [all.map((one) => one.latency_p95), all.map((one) => one.latency_p50)]],
  [{ title: "Audio done, times real time", stack: true, named: true, format: times, least: 1, series: [{ name: "calls", tone: 1 }, { name: "jobs", tone: 2 }, { name: "live", tone: 5 }] }, (all) => ["calls_s", "jobs_s", "live_s"].map((name) => all.map((one) => one[name]))],
  [{ title: "Requests a minute", format: plain, least: 4, series: [{ name: "answered", tone: 1 }, { name: "failed", tone: 5, dash: "5 4" }, { name: "refused", tone: 3, dash: "2 3" }] }, (all) => ["requests", "errors", "refusals"].map((name) => all.map((one) => minute(one[name])))],
  [{ title: "Time to first text, 95 of 100", format: seconds, series: [{ name: "live", tone: 5 }, { name: "streamed", tone: 4, dash: "5 4" }], empty: "No live or streamed text in this period." }, (all) => [all.map((one) => one.first_live), all.map((one) => one.first_stream)]],
];

/** Shows it in `root` and returns what ends it. `onHealth` is told of each answer of /health. */
export function show(root, onHealth) {
  const place = {
    first: el("div"), alarms: el("div", {}, el("p", { class: "soft", text: "Loading…" })), note: el("div"), tiles: el("div", { class: "tiles" }),
    charts: CHARTS.map(([spec]) => chart(spec)), lanes: el("div"), parts: el("div", {}, el("p", { class: "soft", text: "Loading…" })), process: el("div"),
  };
  const choice = select(WINDOWS, span, { "aria-label": "Period", class: "narrow", on: { change: () => { span = choice.value; paint(place); } } });
  fill(root,
    card("Alarms", null, place.alarms), place.note,
    el("section", { class: "stack", "aria-label": "Load" }, el("div", { class: "row wrap apart" }, el("h2", { text: "Load" }), el("div", { class: "row wrap" }, place.process, choice)), place.first,
      place.tiles, el("div", { class: "charts" }, place.charts.map(({ node }) => el("div", { class: "card" }, node)))),
    card("Queues", null, place.lanes), card("Parts of the server", null, place.parts));
  paint(place);
  const ends = [watchMetrics(place), watchHealth(place, onHealth), watchAlarms(place)];
  return () => ends.forEach((end) => end());
}

function watchMetrics(place) {
  return poll(EVERY_MS, async (signal) => {
    const answer = await call("GET", "/metrics", { signal });
    history.add(reading(parse(await answer.text()), Date.now() / 1000));
    fill(place.note);
    paint(place);
  }, (error) => fill(place.note, trouble(error, error.status === 403 ? "metrics" : "These figures are out of date.")));
}

function watchHealth(place, onHealth) {
  return poll(EVERY_MS, async (signal) => {
    const health = await healthNow(signal);
    onHealth(health);
    place.isCluster = Boolean(health.components?.broker);
    fill(place.parts, components(health));
  }, () => onHealth({ status: "unreachable" }));
}

/** Returns what /health says, which is told with 503 as well; the status `hidden` where a proxy keeps it to itself. Throws
 *  where the server is not reached. */
export async function healthNow(signal) {
  const answer = await fetch("/health", { signal, cache: "no-store", credentials: "omit" });
  const health = await answer.json().catch(() => ({}));
  return health.status ? health : { status: "hidden" };
}

function watchAlarms(place) {
  return poll(ALARMS_MS, async (signal) => {
    const { data } = await request("GET", "/v1/alarms", { signal });
    showAlarms(place.alarms, data);
  }, (error) => fill(place.alarms, trouble(error)));
}

function paint(place) {
  const process = history.processes.includes(chosen) ? chosen : history.processes.at(-1);
  if (process === undefined) return fill(place.tiles, TILES.map(([title]) => tile(title, "–", "loading…")));
  const newest = history.of(process).at(-1);
  const first = newest.at - Number(span);
  const all = history.of(process, first);
  const start = Math.max(first, Math.min(all[0].at, newest.at - LEAST_SPAN_S));
  fill(place.tiles, TILES.map((each) => tileOf(each, newest, all)));
  place.charts.forEach((made, i) => made.show({ xs: all.map(({ at }) => at), rows: CHARTS[i][1](all), span: [start, newest.at] }));
  fill(place.lanes, lanes(newest));
  fill(place.first, newest.isFresh && nothing("Nothing has been transcribed since the server started. ", el("p", {}, el("a", { href: "#/transcribe", text: "Transcribe something" }), " and watch it here.")));
  fill(place.process, processes(place, process));
}

function tileOf([title, value, below, line, isBad], newest, all) {
  return tile(title, value(newest), below(newest), sparkline(all.slice(-SPARKS).map(line)), isBad?.(newest));
}

function tile(title, value, below, line = sparkline([]), isBad = false) {
  return el("div", { class: `tile${isBad ? " bad" : ""}` },
    el("span", { class: "tile-title", text: title }), el("span", { class: "tile-value number", text: value }), el("span", { class: "tile-below", text: below }), line);
}

function lanes(one) {
  const rows = LANES.filter((lane) => one.lanes[lane]).map((lane) => [lane, whole(one.lanes[lane].windows), seconds(one.lanes[lane].audio_s)]);
  const jobs = Object.entries(one.jobs);
  return [
    rows.length ? table("Queue of the engine by lane", ["Lane", ["Windows", "number"], ["Audio", "number"]], rows, { small: true }) : nothing("This process has no queue of its own: the engines are with the workers."),
    el("div", { class: "row wrap" }, el("span", { class: "soft", text: "Jobs" }), jobs.length ? jobs.map(([state, count]) => tag(`${state} ${whole(count)}`, kindOf(state, count))) : "none yet",
      one.backlog_s > 0 && el("span", { class: "soft small", text: `about ${seconds(one.backlog_s)} of audio of jobs to be done` })),
  ];
}

const kindOf = (state, count) => (count ? { running: "busy", succeeded: "good", failed: "bad" }[state] ?? "" : "");

/** Says whose figures these are: where several processes take turns, one of them is chosen. */
function processes(place, current) {
  if (history.processes.length < 2) {
    const what = place.isCluster ? "Figures of one process, the one that answers" : "The server";
    return el("span", { class: "soft small", text: `${what}, started ${startOf(current)}` });
  }
  const box = select([...history.processes].sort((a, b) => a - b).map((at) => [String(at), `Process started ${startOf(at)}`]), String(current), {
    "aria-label": "Figures of", class: "narrow", on: { change: () => { chosen = Number(box.value); paint(place); } },
  });
  return box;
}

const startOf = (at) => new Date(at * 1000).toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });
