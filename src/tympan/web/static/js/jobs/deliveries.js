// What was sent to one endpoint: each event with its attempts, and the button that sends it again.

import { request } from "../api.js";
import { el, fill, notice, select } from "../dom.js";
import { ago, moment } from "../text.js";
import { poll } from "./poll.js";

const PAGE = 20;
const KINDS = { pending: "busy", delivered: "good", failed: "bad", dropped: "warn" };
const CHOICES = [["", "All"], ...Object.keys(KINDS).map((each) => [each, each[0].toUpperCase() + each.slice(1)])];
const PERIODS = [["3600", "the last hour"], ["86400", "the last day"], ["604800", "the last week"]];

/** Returns `{node, start(), stop()}` for the endpoint at `path`; it looks only between the two. */
export function deliveries(path) {
  const state = { found: [], more: null, said: "" };
  const filter = select(CHOICES, "", { "aria-label": "Show deliveries" });
  const period = select(PERIODS, "86400", { "aria-label": "Send again what failed in" });
  const parts = {
    list: el("ul", { class: "plain deliveries", "aria-label": "Deliveries" }), note: el("p", { class: "note bad small", hidden: true }),
    empty: el("p", { class: "soft small", text: "Loading…" }), more: el("button", { class: "button small", type: "button", text: "Older ones", hidden: true }),
  };
  let watch = null;
  const start = () => {
    watch ??= poll(async (signal) => {
      await look(path, filter.value, state, signal);
      draw(path, state, parts, () => watch?.now());
      return state.found.some((one) => one.state === "pending");
    }, (error) => { parts.note.hidden = !error; parts.note.textContent = error?.message ?? ""; });
    watch.now();
  };
  const stop = () => {
    watch?.stop();
    watch = null;
  };
  filter.addEventListener("change", () => { state.found = []; watch?.now(); });
  parts.more.addEventListener("click", async () => {
    const page = await request("GET", `${path}/deliveries`, { query: { limit: PAGE, after: state.more, state: filter.value } });
    state.found.push(...page.data);
    state.more = page.has_more ? page.next : null;
    draw(path, state, parts, () => watch?.now());
  });
  const node = el("div", { class: "stack tight delivery-box" },
    el("div", { class: "row wrap apart" }, el("div", {}, filter),
      el("div", { class: "row wrap" }, el("button", { class: "button small", type: "button", text: "Send again what failed in", on: { click: () => replayAll(path, period.value, () => watch?.now()) } }), el("div", {}, period))),
    parts.note, parts.list, parts.empty, el("div", {}, parts.more));
  return { node, start, stop };
}

async function look(path, wanted, state, signal) {
  const page = await request("GET", `${path}/deliveries`, { query: { limit: PAGE, state: wanted }, signal });
  const last = page.data.at(-1)?.id ?? "";
  const behind = page.has_more ? state.found.filter((one) => one.id < last) : [];
  if (!behind.length) state.more = page.has_more ? page.next : null;
  state.found = [...page.data, ...behind];
}

function draw(path, state, parts, refresh) {
  parts.empty.hidden = state.found.length > 0;
  parts.empty.textContent = "Nothing has been sent there yet.";
  parts.more.hidden = !state.more;
  const said = JSON.stringify(state.found);
  if (said === state.said) return;
  state.said = said;
  const open = new Set([...parts.list.querySelectorAll("details[open]")].map((each) => each.dataset.id));
  fill(parts.list, state.found.map((one) => delivery(path, one, open.has(one.id), refresh)));
}

function delivery(path, one, open, refresh) {
  const replay = async () => {
    try {
      await request("POST", `${path}/deliveries/${one.id}/replay`);
      notice("It will be sent again.", "good");
      refresh();
    } catch (error) {
      notice(error.message, "bad");
    }
  };
  const job = /^job_/.test(one.subject);
  return el("li", { class: "delivery" },
    el("div", { class: "row apart wrap" },
      el("div", { class: "row wrap grow" }, el("span", { class: `tag ${KINDS[one.state] ?? ""}`, text: one.state }), el("code", { text: one.type }),
        job ? el("a", { class: "clip small", href: `#/jobs/${one.subject}`, text: one.subject }) : el("span", { class: "clip small soft", text: one.subject }),
        el("span", { class: "soft small", text: ago(one.created_at), title: moment(one.created_at) })),
      el("button", { class: "button small", type: "button", "aria-label": `Replay ${one.type} of ${one.subject}`, text: "Replay", on: { click: replay } })),
    outcome(one),
    one.log.length > 0 && el("details", { class: "small", open, data: { id: one.id } }, el("summary", { text: `${one.log.length} ${one.log.length === 1 ? "attempt" : "attempts"}` }),
      el("ol", { class: "attempts" }, one.log.map(attempt))));
}

function outcome(one) {
  const again = one.next_attempt_at ? `Next attempt: ${moment(one.next_attempt_at)}.` : "";
  const text = [one.last_error, again].filter(Boolean).join(" ");
  return text && el("p", { class: "soft small", text });
}

function attempt({ number, at, status, error, duration_ms: took, excerpt }) {
  return el("li", { value: number },
    el("span", { class: "number", text: `${moment(at)} · ${status ?? "no answer"} · ${took} ms` }), error && ` · ${error}`,
    excerpt && el("pre", { class: "excerpt", text: excerpt }));
}

async function replayAll(path, seconds, refresh) {
  try {
    const since = new Date(Date.now() - Number(seconds) * 1000).toISOString();
    const { replayed } = await request("POST", `${path}/replay-failed`, { json: { since } });
    notice(replayed ? `${replayed} sent again.` : "Nothing failed in that time.", replayed ? "good" : "");
    refresh();
  } catch (error) {
    notice(error.message, "bad");
  }
}
