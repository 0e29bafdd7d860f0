// Operate, quality: golden sets with their runs, a model on trial, and what live traffic tells.
// Rate of requests: /v1/quality every 60 s while the page is seen; a run's details when somebody asks for them.

import { request } from "../api.js";
import { el, fill, select } from "../dom.js";
import { showAlarms } from "./health.js";
import { card, commandLine, nothing, trouble } from "./parts.js";
import { poll } from "./poll.js";
import { setCard } from "./sets.js";
import { rolloutCard, shadowCard, trafficCards } from "./traffic.js";

const EVERY_MS = 60_000;
const DAYS = [["30", "30 days"], ["90", "90 days"], ["365", "a year"], ["3650", "ten years"]];

let days = "90";

/** Shows it in `root` and returns what ends it. */
export function show(root) {
  const place = { note: el("div"), alarms: el("div", { class: "stack" }), sets: el("div", { class: "stack" }, el("p", { class: "soft", text: "Loading…" })), rest: el("div", { class: "stack" }), end: () => {} };
  const choice = select(DAYS, days, { "aria-label": "Runs of the last", class: "narrow", on: { change: () => { days = choice.value; place.told = ""; watch(place); } } });
  fill(root, place.note, place.alarms,
    el("div", { class: "row wrap apart" }, el("h2", { text: "Golden sets" }), choice), place.sets, place.rest);
  watch(place);
  return () => place.end();
}

function watch(place) {
  place.end();
  place.end = poll(EVERY_MS, async (signal) => {
    const quality = await request("GET", "/v1/quality", { query: { days }, signal });
    fill(place.note);
    const told = JSON.stringify(quality);
    if (told !== place.told) paint(place, quality);
    place.told = told;
  }, (error) => {
    fill(place.note, trouble(error));
    if (!place.told) fill(place.sets);
  });
}

function paint(place, quality) {
  const alarms = el("div");
  if (quality.alarms.length) showAlarms(alarms, quality.alarms);
  fill(place.alarms, quality.alarms.length ? card("Alarms about quality", null, alarms) : null);
  fill(place.sets, quality.golden_sets.length ? quality.golden_sets.map(setCard) : card("No golden set", null, noSets()));
  fill(place.rest, rolloutCard(quality.rollout), trafficCards(quality.traffic), shadowCard(quality.shadow));
}

function noSets() {
  return nothing("A golden set is a folder of recordings with what is said in them. The server transcribes it every week, counts the errors and says when there are more. Make one on the server's machine:",
    commandLine("tympan quality add recordings --name calls"));
}
