// The list of jobs, newest first: looked at again while it is seen, filtered, and acted on.

import { request } from "../api.js";
import { el, fill, notice } from "../dom.js";
import { jobRow } from "./job_row.js";
import { poll } from "./poll.js";
import { FILTERS, isOpen, nameOf } from "./states.js";

const PAGE = 50;
const MOST_SINGLE = 10;

/** Returns `{node, stop()}` for what `query` asks: `state` (a filter's name) and `batch`. */
export function jobList(query) {
  const filter = FILTERS.find(([name]) => name === query.get("state")) ?? FILTERS[0];
  const batch = query.get("batch") ?? "";
  const state = { jobs: [], rows: new Map(), more: null, words: "", asked: { state: filter[2], batch_id: batch } };
  const parts = {
    body: el("tbody", {}), table: el("table", { class: "job-table" }), note: el("p", { class: "note bad", hidden: true }),
    empty: el("p", { class: "empty", text: "Loading…" }), more: el("button", { class: "button", type: "button", text: "Older ones", hidden: true }),
    count: el("p", { class: "soft small", role: "status" }),
  };
  fill(parts.table, el("thead", {}, el("tr", {}, ["File", "State", "Length", "Model", "Language", "Added", ""].map((title) =>
    el(title ? "th" : "td", title ? { scope: "col", text: title } : {})))), parts.body);
  const draw = () => show(state, parts, { filter, batch }, acts);
  const watch = poll((signal) => look(state, signal).finally(draw), (error) => {
    parts.note.hidden = !error;
    parts.note.textContent = error?.message ?? "";
  });
  const acts = actions(state, draw, watch);
  parts.more.addEventListener("click", () => older(state).then(draw, (error) => notice(error.message, "bad")));
  const find = el("input", { type: "search", placeholder: "Find by name", "aria-label": "Find by name or id", on: { input: () => { state.words = find.value.toLowerCase(); draw(); } } });
  const node = el("div", { class: "stack" },
    el("div", { class: "row wrap apart" }, filters(filter, batch), el("div", { class: "find" }, find)),
    batch && el("p", { class: "note row wrap" }, el("span", { text: "Only jobs of the batch " }), el("code", { class: "clip", text: batch }), el("a", { href: "#/jobs", text: "Show all" })),
    parts.note, el("div", { class: "card table-card" }, parts.table, parts.empty), el("div", { class: "row wrap apart" }, parts.count, parts.more));
  return { node, stop: watch.stop };
}

function filters([current], batch) {
  return el("div", { class: "row wrap chips", role: "group", "aria-label": "Show by state" }, FILTERS.map(([name, title]) => {
    const query = new URLSearchParams([...(name ? [["state", name]] : []), ...(batch ? [["batch", batch]] : [])]).toString();
    return el("a", { class: "button small", href: query ? `#/jobs?${query}` : "#/jobs", "aria-current": name === current ? "true" : null, text: title });
  }));
}

/** Asks for the newest page, and for the jobs behind it that are still to change. Returns whether any is. */
async function look(state, signal) {
  const page = await request("GET", "/v1/jobs", { query: { ...state.asked, limit: PAGE }, signal });
  const last = page.data.at(-1)?.id ?? "";
  const fresh = new Set(page.data.map((job) => job.id));
  const behind = page.has_more ? state.jobs.filter((job) => job.id < last && !fresh.has(job.id)) : [];
  for (const job of behind.filter(isOpen).slice(0, MOST_SINGLE)) {
    const now = await request("GET", `/v1/jobs/${job.id}`, { signal }).catch((error) => ({ gone: error.status === 404 }));
    if (now.gone) behind.splice(behind.indexOf(job), 1);
    else if (now.id) behind[behind.indexOf(job)] = now;
  }
  if (!behind.length) state.more = page.has_more ? page.next : null;
  state.jobs = [...page.data, ...behind];
  return state.jobs.some(isOpen);
}

async function older(state) {
  const page = await request("GET", "/v1/jobs", { query: { ...state.asked, limit: PAGE, after: state.more } });
  const known = new Set(state.jobs.map((job) => job.id));
  state.jobs.push(...page.data.filter((job) => !known.has(job.id)));
  state.more = page.has_more ? page.next : null;
}

function show(state, parts, { filter, batch }, acts) {
  const wanted = state.jobs.filter((job) => `${nameOf(job)} ${job.id}`.toLowerCase().includes(state.words));
  const ids = new Set(wanted.map((job) => job.id));
  for (const [id, { node }] of state.rows) {
    if (ids.has(id)) continue;
    node.remove();
    state.rows.delete(id);
  }
  wanted.forEach((job, at) => {
    const known = state.rows.get(job.id);
    if (known) known.update(job);
    else state.rows.set(job.id, jobRow(job, acts));
    const { node } = state.rows.get(job.id);
    if (parts.body.children[at] !== node) parts.body.insertBefore(node, parts.body.children[at] ?? null);
  });
  parts.table.hidden = !wanted.length;
  parts.empty.hidden = Boolean(wanted.length);
  fill(parts.empty, nothing(state, filter, batch));
  parts.more.hidden = !state.more;
  const count = state.words ? `${wanted.length} of ${state.jobs.length} loaded` : `${state.jobs.length} loaded`;
  if (state.jobs.length && parts.count.textContent !== count) parts.count.textContent = count;
}

function nothing(state, [name], batch) {
  if (state.words) return `None of the ${state.jobs.length} loaded has “${state.words}” in its name.`;
  if (name || batch) return "No job matches.";
  return ["No jobs yet. ", el("a", { href: "#/transcribe", text: "Transcribe a file" }), ", and it appears here."];
}

/** What rows can have done; each says in a notice what it could not do. */
function actions(state, draw, watch) {
  const change = (job) => {
    const at = state.jobs.findIndex((each) => each.id === job.id);
    if (at >= 0) state.jobs[at] = job;
    else state.jobs.unshift(job);
    draw();
    watch.now();
  };
  const guarded = (act) => async (job) => {
    try {
      await act(job);
    } catch (error) {
      notice(error.message, "bad");
    }
  };
  return {
    cancel: guarded(async (job) => change(await request("POST", `/v1/jobs/${job.id}/cancel`))),
    retry: guarded(async (job) => {
      change(await request("POST", `/v1/jobs/${job.id}/retry`));
      notice(`${nameOf(job)} was submitted again.`, "good");
    }),
    remove: guarded(async (job) => {
      await request("DELETE", `/v1/jobs/${job.id}`);
      state.jobs = state.jobs.filter((each) => each.id !== job.id);
      draw();
    }),
  };
}
