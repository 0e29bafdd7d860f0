// How the server says it is: one word, its parts with reasons and remedies, and the alarms that are firing.

import { el, fill } from "../dom.js";
import { ago, bytes, moment } from "../text.js";
import { nothing, table, tag } from "./parts.js";
import { counted, seconds } from "./units.js";

const WORDS = {
  healthy: ["good", "Everything works."],
  degraded: ["warn", "It works, but some parts have problems."],
  loading: ["busy", "The model is loading; requests are accepted once it is ready."],
  unhealthy: ["bad", "No requests are accepted."],
  hidden: ["", "This address does not report the server's health."],
  unreachable: ["bad", "The server does not answer."],
};
const STATES = { ok: "good", degraded: "warn", down: "bad" };
const SEVERITIES = { page: ["bad", "now"], ticket: ["warn", "today"] };
const IN_SHORT = {
  tympantranscriptsworse: "What was changed: the model, its settings, the server, or what callers send? Undo it, or accept the change: tympan quality baseline RUN.",
  tympanqualityunknown: "Nothing is known until a run succeeds. Look at the last run, then start another: tympan quality run SET.",
};
const HIDDEN = new Set(["status", "reason", "remedy", "ok"]);

/** Returns the line that says how the server is as a whole. */
export function headline(health) {
  const [kind, words] = WORDS[health.status] ?? ["", ""];
  const facts = [health.model && `model ${health.model}`, health.version && `version ${health.version}`,
    health.memory_used_mb > 0 && `${bytes(health.memory_used_mb * 1e6)} of memory`];
  return [tag(health.status === "hidden" ? "not told" : health.status, `${kind} large`), el("span", { text: words }), el("span", { class: "soft small grow", text: facts.filter(Boolean).join(" · ") })];
}

/** Returns the parts of the server, those first that are not well. */
export function components(health) {
  const worst = ["down", "degraded", "ok"];
  const entries = Object.entries(health.components ?? {}).sort(([, a], [, b]) => worst.indexOf(a.status) - worst.indexOf(b.status));
  if (!entries.length) return nothing("The server reports nothing about its parts.");
  return table("Parts of the server", ["Part", "State", "What it says"], entries.map(([name, part]) => [
    name.replaceAll("_", " "), tag(part.status, STATES[part.status]),
    el("div", { class: "stack tight" }, part.reason && el("b", { text: part.reason }), part.remedy && el("span", { text: part.remedy }),
      el("span", { class: "soft small facts", text: facts(part) })),
  ]));
}

function facts(part) {
  return Object.entries(part).filter(([name, value]) => !HIDDEN.has(name) && value !== null && value !== "")
    .map(([name, value]) => fact(name, value)).join(" · ");
}

function fact(name, value) {
  const words = name.replaceAll("_", " ");
  if (name.endsWith("_s") && typeof value === "number") return `${words.slice(0, -2)} ${seconds(value)}`;
  if (name.endsWith("_mb") && typeof value === "number") return `${words.slice(0, -3)} ${bytes(value * 1e6)}`;
  if (value === true || value === false) return `${words}: ${value ? "yes" : "no"}`;
  if (typeof value === "object") return Object.entries(value).map(([key, each]) => `${key} ${typeof each === "object" ? JSON.stringify(each) : each}`).join(", ");
  return `${words} ${value}`;
}

/** Returns the alarms that are firing, the urgent ones first; what to do stands below each. */
export function alarms(found) {
  const order = Object.keys(SEVERITIES);
  const rank = (each) => (order.indexOf(each.severity) + order.length + 1) % (order.length + 1);
  const sorted = [...found].sort((a, b) => rank(a) - rank(b));
  return el("ul", { class: "alarms" }, sorted.map((each) => el("li", { class: `note ${SEVERITIES[each.severity]?.[0] ?? "warn"}` }, alarm(each))));
}

function alarm(each) {
  const [kind, when] = SEVERITIES[each.severity] ?? ["warn", each.severity];
  const figures = each.source === "component" ? "" : facts(each.detail ?? {});
  return el("div", { class: "stack tight" },
    el("div", { class: "row wrap" }, tag(when ? `look at it ${when}` : "alarm", kind), el("b", { text: each.name.replaceAll("_", " ") }),
      each.subject && each.subject !== each.name && el("span", { class: "wrap-anywhere", text: each.subject }),
      each.since && el("span", { class: "soft small", title: moment(each.since), text: `since ${ago(each.since)}` })),
    el("p", { text: each.summary }), figures && el("p", { class: "small wrap-anywhere", text: figures }), whatToDo(each));
}

/** The remedy in the server's words, else what the runbook says in short; and where all of it stands. */
function whatToDo({ remedy, runbook }) {
  const [, section = ""] = (runbook ?? "").split("#");
  const short = remedy ?? IN_SHORT[section];
  return el("p", { class: "small" }, short && [el("b", { text: "What to do: " }), short, " "],
    section in IN_SHORT && !location.hash.endsWith("/quality") && [el("a", { href: "#/operate/quality", text: "See Quality." }), " "],
    runbook && el("span", { class: "soft wrap-anywhere", text: `More: ${runbook}` }));
}

/** Puts the alarms, or that there are none, into `place`; returns how many there are. */
export function showAlarms(place, found) {
  fill(place, found.length ? alarms(found) : el("p", { class: "row" }, tag("none", "good"), "No alarm is firing."));
  return counted(found.length, "alarm");
}
