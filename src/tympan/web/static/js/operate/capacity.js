// Operate, capacity: how many machines a demand takes, from what the server has seen or from what is expected.
// Rate of requests: one for each press of the button, one at a time; it takes seconds, two minutes at most.

import { pause, request } from "../api.js";
import { el, field, fill, select } from "../dom.js";
import { span } from "../text.js";
import { card, commandLine, nothing, trouble } from "./parts.js";
import { result } from "./plan.js";

const WAYS = [["live", "What was seen here"], ["per_hour", "Requests an hour"], ["peak_concurrent", "Callers at once"]];
const DAYS = [["1", "the last day"], ["7", "the last 7 days"], ["28", "the last 28 days"], ["90", "the last 90 days"]];
const GROWTHS = [["1", "as it is"], ["1.5", "half as much again"], ["2", "twice as much"], ["3", "three times as much"], ["5", "five times as much"], ["10", "ten times as much"]];

// What was typed and planned last, while the page is open.
const kept = { values: { way: "live", days: "7", growth: "1", wait_p95_s: "5", headroom: "20" }, document: null };

/** Shows it in `root` and returns what ends it. */
export function show(root) {
  const place = { over: new AbortController(), answer: el("div", { class: "stack", "aria-live": "polite" }), fields: {}, isBusy: false };
  place.send = el("button", { class: "button main", text: "Plan" });
  place.form = el("form", { class: "stack", on: { submit: (event) => { event.preventDefault(); plan(place); } } }, demand(place), goal(place), el("div", { class: "row wrap" }, place.send));
  fill(root, card("Plan capacity", null,
    el("p", { class: "soft", text: "How many machines you need so that callers wait no longer than you allow, also when one machine fails or the demand doubles. The server simulates its own scheduler with measured speeds." }), place.form), place.answer);
  adjust(place);
  if (kept.document) fill(place.answer, result(kept.document));
  return () => place.over.abort();
}

function demand(place) {
  return el("fieldset", { class: "fields" }, el("legend", { text: "Demand" }),
    field("Demand from", choice(place, "way", WAYS)), hideable(place, "days", field("Seen in", choice(place, "days", DAYS))),
    hideable(place, "count", field("How many at peak", number(place, "count", { min: "1", step: "any", required: true }))),
    field("Growth", choice(place, "growth", GROWTHS)),
    field("Mean length, seconds", number(place, "mean_length_s", { min: "0.1", step: "any", placeholder: "as seen, else 30" })),
    field("Share of jobs, %", number(place, "job_share", { min: "0", max: "100", step: "any", placeholder: "as seen, else 0" })));
}

function goal(place) {
  return el("fieldset", { class: "fields" }, el("legend", { text: "Goal" }),
    field("95 of 100 wait at most, s", number(place, "wait_p95_s", { min: "0.001", step: "any", placeholder: "5" })),
    field("95 of 100 are answered within, s", number(place, "turnaround_p95_s", { min: "0.001", step: "any", placeholder: "not asked for" })),
    field("95 of 100 jobs are done within, s", number(place, "job_p95_s", { min: "0.001", step: "any", placeholder: "not asked for" })),
    field("Capacity to keep free, %", number(place, "headroom", { min: "0", max: "90", step: "any", placeholder: "20" })),
    field("An hour of a machine costs", number(place, "cost_per_hour", { min: "0", step: "any", placeholder: "not known" })));
}

const remember = (place, name) => { kept.values[name] = place.fields[name].value; adjust(place); };

function choice(place, name, entries) {
  place.fields[name] = select(entries, kept.values[name], { on: { change: () => remember(place, name) } });
  return place.fields[name];
}

function number(place, name, props) {
  place.fields[name] = el("input", { type: "number", autocomplete: "off", ...props, value: kept.values[name] ?? "", on: { input: () => remember(place, name) } });
  return place.fields[name];
}

function hideable(place, name, node) {
  place[name] = node;
  return node;
}

/** Shows the fields that belong to the way in which the demand is given. */
function adjust(place) {
  const isLive = place.fields.way.value === "live";
  place.days.hidden = !isLive;
  place.count.hidden = isLive;
  place.fields.count.disabled = isLive;
}

/** Returns what the API is asked; empty fields are left out. */
function wish({ fields }) {
  const amount = (name) => (fields[name].value === "" ? null : Number(fields[name].value));
  const given = (names, factor = 1) => Object.fromEntries(names.map((name) => [name, amount(name)]).filter(([, value]) => value !== null).map(([name, value]) => [name, value * factor]));
  const way = fields.way.value;
  return {
    ...(way === "live" ? { days: amount("days") } : { [way]: amount("count") }), growth: amount("growth"),
    ...given(["mean_length_s", "cost_per_hour"]), ...given(["job_share"], 0.01),
    goal: { ...given(["wait_p95_s", "turnaround_p95_s", "job_p95_s"]), ...given(["headroom"], 0.01) },
  };
}

async function plan(place) {
  if (place.isBusy) return;
  place.isBusy = true;
  place.send.disabled = true;
  const cancel = new AbortController();
  const stop = () => cancel.abort();
  place.over.signal.addEventListener("abort", stop);
  waiting(place, cancel);
  try {
    kept.document = await request("POST", "/v1/capacity/plan", { json: wish(place), signal: cancel.signal });
    fill(place.answer, result(kept.document));
  } catch (error) {
    fill(place.answer, error.name === "AbortError" ? null : failed(error));
  } finally {
    cancel.abort();
    place.isBusy = false;
    place.send.disabled = false;
    place.over.signal.removeEventListener("abort", stop);
  }
}

/** Says that it goes on, for how long already, and lets it be stopped. */
async function waiting(place, cancel) {
  const time = el("span", { class: "number", "aria-hidden": "true" });
  fill(place.answer, el("div", { class: "card stack" }, el("p", {}, "Simulating … ", time), el("progress", { "aria-label": "Simulating" }),
    el("div", {}, el("button", { class: "button", type: "button", text: "Stop", on: { click: () => cancel.abort() } }))));
  const began = Date.now();
  while (!cancel.signal.aborted) {
    time.textContent = span(Math.floor((Date.now() - began) / 1000));
    await pause(1000, cancel.signal).catch(() => {});
  }
}

function failed(error) {
  const isUnmeasured = error.status === 409;
  return el("div", { class: "card stack" }, trouble(error),
    isUnmeasured && nothing("Measuring takes one to two minutes, during which the machine should have nothing else to do. On the server's machine, with its settings:", commandLine("tympan capacity")));
}
