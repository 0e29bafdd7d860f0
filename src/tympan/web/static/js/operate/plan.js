// What a plan says: how many machines, what to expect of them, what happens when one dies or the demand doubles.

import { el } from "../dom.js";
import { number } from "../text.js";
import { chart } from "./charts.js";
import { card, table } from "./parts.js";
import { counted, plain, seconds, share, whole } from "./units.js";

const MOST_REFUSED = 0.001;

/** Returns the answer of /v1/capacity/plan as it is shown. */
export function result(document) {
  return document.plans.map((plan) => card(counted(plan.replicas, "machine"), el("span", { class: "soft small", text: machine(plan) }),
    el("p", { text: `For ${demand(plan.demand)}. Goal: ${goal(plan.goal)}.` }),
    tiles(plan), whatIf(plan), expectations(plan), charts(plan), notes(plan)));
}

function machine({ machine: { name, model, engine, device, compute_type: type }, audio_hours_per_hour: { machine: most } }) {
  const what = [model, engine, device, type].filter(Boolean).join(", ");
  return `each ${name}${what ? ` (${what})` : ""}, at most ${plain(most)} hours of audio an hour`;
}

const meanOf = ({ values_s: values, weights }) => values.reduce((sum, value, i) => sum + value * weights[i], 0) / weights.reduce((sum, each) => sum + each, 0);

function demand(found) {
  const jobs = found.job_share ? `, ${share(found.job_share)} of them jobs${found.job_lengths ? ` of ${seconds(meanOf(found.job_lengths))}` : ""}` : "";
  const what = found.callers === null ? `${number(found.per_hour)} requests in the busiest hour` : `${counted(found.callers, "caller")} at once, each of whom asks again ${found.think_s ? `${seconds(found.think_s)} after the answer` : "as soon as answered"}`;
  return `${what}${jobs}, ${seconds(meanOf(found.lengths))} of audio each`;
}

function goal(found) {
  const limits = [["wait", found.wait_p95_s], ["are answered within", found.turnaround_p95_s], ["jobs are done within", found.job_p95_s]];
  const words = limits.filter(([, limit]) => limit !== null).map(([what, limit], i) => `${i ? "" : "95 of 100 "}${what}${what === "wait" ? " no longer than" : ""} ${seconds(limit)}`);
  return [...words, `${share(found.headroom)} of the capacity stay free`].join(", ");
}

function tiles(plan) {
  const { figures, cost } = plan;
  const entries = [
    ["Demand", `${plain(plan.audio_hours_per_hour.demand)} h`, "of audio an hour"],
    ["Wait, 95 of 100", value(figures.wait_s), interval(figures.wait_s)],
    ["Answered, 95 of 100", value(figures.turnaround_s), interval(figures.turnaround_s)],
    plan.headroom === null ? ["Engines busy", share(figures.utilisation.value), "callers at once leave no machine idle"] : ["Headroom", share(plan.headroom), `busy ${share(figures.utilisation.value)} in the busiest hour`],
    ...(cost ? [["Cost of a day", plain(cost.day), cost.day_autoscaled < cost.day ? `${plain(cost.day_autoscaled)} when each hour has what it needs` : `${plain(cost.audio_hour)} for an hour of audio`]] : []),
  ];
  return el("div", { class: "tiles few" }, entries.map(([title, text, below]) => el("div", { class: "tile" },
    el("span", { class: "tile-title", text: title }), el("span", { class: "tile-value number", text }), el("span", { class: "tile-below", text: below }))));
}

const value = (times, at = "p95") => (times === null ? "–" : times[at].value === null ? "never" : seconds(times[at].value));

function interval(times) {
  const found = times?.p95;
  return Number.isFinite(found?.low) ? `${seconds(found.low)} to ${seconds(found.high)} over the runs` : "";
}

/** Returns what of the goal does not hold. */
function misses(figures, wanted) {
  const limits = [["wait", figures.wait_s, wanted.wait_p95_s], ["answers take", figures.turnaround_s, wanted.turnaround_p95_s], ["jobs take", figures.job_turnaround_s, wanted.job_p95_s]];
  const found = limits.filter(([, times, limit]) => limit !== null && times && !(times.p95.value !== null && times.p95.value <= limit))
    .map(([what, times, limit]) => `${what} ${value(times)} instead of ${seconds(limit)}`);
  return figures.refused_share > MOST_REFUSED ? [...found, `${share(figures.refused_share)} are refused`] : found;
}

function whatIf(plan) {
  return el("dl", { class: "what-if" },
    el("dt", { text: "If one machine dies" }), el("dd", { text: death(plan) }),
    el("dt", { text: "At twice the demand" }), el("dd", { text: double(plan) }),
    el("dt", { text: "To scale by itself" }), el("dd", { text: `a worker for every ${seconds(plan.autoscaling.backlog_s)} of audio that wait, from ${plan.autoscaling.least} up to ${plan.autoscaling.most}` }));
}

function death({ without_one: after, goal: wanted }) {
  if (!after) return "nothing is served until it is back: there is only one";
  const broken = after.broken >= 1.5 ? `about ${whole(Math.round(after.broken))} calls break` : "about one call breaks";
  const missed = misses(after, wanted);
  return `${broken}; then the goal is ${missed.length ? `missed: ${missed.join("; ")}` : "still met"}`;
}

function double({ doubled, goal: wanted, replicas, for_double: more }) {
  const missed = misses(doubled, wanted);
  if (!missed.length && more === replicas) return `the goal is still met with ${counted(replicas, "machine")}`;
  const takes = more === null ? "more machines are needed than can be planned for" : `it takes ${counted(more, "machine")}`;
  return missed.length ? `with ${replicas}: ${missed.join("; ")}; ${takes}` : `${replicas} meet the times, without the headroom; ${takes}`;
}

function expectations(plan) {
  const rows = [["as asked", plan.figures], ["after one has died", plan.without_one], ["twice the demand", plan.doubled]].filter(([, figures]) => figures);
  const hasJobs = rows.some(([, figures]) => figures.job_turnaround_s);
  const head = ["Case", ["Wait, half", "number"], ["95 of 100", "number"], ["Answered, half", "number"], ["95 of 100", "number"], ...(hasJobs ? [["Jobs, 95 of 100", "number"]] : []), ["Refused", "number"], ["Busy", "number"]];
  return table("What to expect", head, rows.map(([name, { wait_s: wait, turnaround_s: turnaround, job_turnaround_s: jobs, refused_share: refused, utilisation }]) => [
    name, value(wait, "p50"), value(wait), value(turnaround, "p50"), value(turnaround), ...(hasJobs ? [value(jobs)] : []), share(refused), share(utilisation.value),
  ]));
}

function charts(plan) {
  const found = [byHour(plan), tried(plan), curve(plan)].filter(Boolean);
  return el("div", { class: "charts" }, found.map((node) => el("div", {}, node)));
}

function byHour({ by_hour: machines, demand: { by_hour: requests } }) {
  if (!machines.length) return null;
  return bars("Machines by the hour of the day (UTC)", machines.map((_, i) => i), [machines], { series: [{ name: "machines", tone: 1 }], format: whole, least: 4, label: (hour) => `${hour}:00`, first: "Hour",
    note: (i) => `${plain(requests[i])} requests` });
}

/** The wait by the number of machines that were looked at: how close the next smaller number comes. */
function tried({ tried: all, goal: { wait_p95_s: limit } }) {
  if (all.length < 2 || !all.every(({ wait_s: wait }) => wait)) return null;
  const made = { series: [{ name: "95 of 100 wait", tone: 2 }], format: seconds, label: (n) => counted(n, "machine"), first: "Machines", note: (i) => (limit !== null && all[i].wait_s.p95.value > limit ? "too long" : "") };
  return bars("Wait by the number of machines", all.map(({ replicas }) => replicas), [all.map(({ wait_s: wait }) => wait.p95.value)], made);
}

function curve({ curve: rows }) {
  return bars("One machine: hours of audio an hour by callers at once", rows.map(([callers]) => callers), [rows.map(([, rate]) => rate)], {
    series: [{ name: "hours of audio an hour", tone: 4 }], format: plain, label: (callers) => counted(callers, "caller"), first: "Callers", note: (i) => `answered in ${seconds(rows[i][2])}` });
}

function bars(title, xs, rows, spec) {
  const made = chart({ title, categories: true, named: true, ...spec });
  made.show({ xs, rows });
  return made.node;
}

function notes(plan) {
  return [
    plan.notes.map((text) => el("p", { class: "note", text })),
    el("p", { class: "soft small", text: "Simulated with what `tympan capacity` measured: other languages, harder audio, live sessions and the network are not in it. See docs/howto/plan-capacity.md for how far to trust it." }),
  ];
}
