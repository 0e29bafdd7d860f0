// Batches: how many of their jobs are in each state, their results in one archive, cancelled or deleted as one.

import { call, request } from "../api.js";
import { ask, el, fill, notice } from "../dom.js";
import { ago, clock, moment } from "../text.js";
import { poll } from "./poll.js";
import { STATES } from "./states.js";

const PAGE = 20;

/** Returns `{node, stop()}`. */
export function batchList() {
  const state = { batches: [], more: null };
  const list = el("ul", { class: "batches plain", "aria-label": "Batches" });
  const note = el("p", { class: "note bad", hidden: true });
  const empty = el("p", { class: "empty", text: "Loading…" });
  const more = el("button", { class: "button", type: "button", text: "Older ones", hidden: true });
  const drawn = new Map();
  const draw = () => {
    const ids = new Set(state.batches.map((batch) => batch.id));
    for (const [id, { node }] of drawn) if (!ids.has(id)) { node.remove(); drawn.delete(id); }
    state.batches.forEach((batch, at) => {
      const known = drawn.get(batch.id);
      if (!known) drawn.set(batch.id, { said: "", node: el("li", { class: "card stack tight" }) });
      const entry = drawn.get(batch.id);
      if (entry.said !== JSON.stringify(batch)) fill(entry.node, card(batch, act));
      entry.said = JSON.stringify(batch);
      if (list.children[at] !== entry.node) list.insertBefore(entry.node, list.children[at] ?? null);
    });
    empty.hidden = state.batches.length > 0;
    empty.textContent = "No batches yet. A batch is many files submitted together with POST /v1/batches.";
    more.hidden = !state.more;
  };
  const watch = poll((signal) => look(state, signal).finally(draw), (error) => {
    note.hidden = !error;
    note.textContent = error?.message ?? "";
  });
  const act = (work) => work().then(() => watch.now(), (error) => notice(error.message, "bad"));
  more.addEventListener("click", () => act(() => older(state).then(draw)));
  return { node: el("div", { class: "stack" }, note, list, empty, el("div", {}, more)), stop: watch.stop };
}

async function look(state, signal) {
  const page = await request("GET", "/v1/batches", { query: { limit: PAGE }, signal });
  const last = page.data.at(-1)?.id ?? "";
  const behind = page.has_more ? state.batches.filter((batch) => batch.id < last) : [];
  if (!behind.length) state.more = page.has_more ? page.next : null;
  state.batches = [...page.data, ...behind];
  return state.batches.some((batch) => batch.state === "running");
}

async function older(state) {
  const page = await request("GET", "/v1/batches", { query: { limit: PAGE, after: state.more } });
  state.batches.push(...page.data);
  state.more = page.has_more ? page.next : null;
}

function card(batch, act) {
  const { progress, counts } = batch;
  const name = batch.metadata.name || batch.id;
  const done = batch.state === "finished";
  const tags = Object.entries(counts).filter(([, count]) => count).map(([each, count]) => {
    const [word, kind] = STATES[each] ?? [each, ""];
    return el("span", { class: `tag ${kind}`, text: `${count} ${word.toLowerCase()}` });
  });
  return [
    el("div", { class: "row apart wrap" },
      el("a", { class: "clip name", href: `#/jobs?batch=${batch.id}`, text: name }),
      el("div", { class: "row wrap" },
        el("a", { class: "button small", href: `#/jobs?batch=${batch.id}`, "aria-label": `Jobs of ${name}`, text: "Jobs" }),
        done && counts.succeeded > 0 && button("Results", name, () => act(() => results(batch))),
        !done && button("Cancel", name, () => act(() => cancelled(batch, name))),
        button("Delete", name, () => act(() => removed(batch, name)), "quiet"))),
    !done && el("progress", { max: progress.jobs_total || 1, value: progress.jobs_done, "aria-label": `Progress of ${name}` }),
    el("div", { class: "row wrap" }, tags,
      el("span", { class: "soft small number", text: `${progress.jobs_done} of ${progress.jobs_total} jobs` }),
      progress.audio_s_total > 0 && el("span", { class: "soft small number", text: `${clock(progress.audio_s_total)} of audio` }),
      el("span", { class: "soft small", text: ago(batch.created_at), title: moment(batch.created_at) })),
  ];
}

function button(text, name, act, kind = "") {
  return el("button", { class: `button small ${kind}`, type: "button", "aria-label": `${text} ${name}`, text, on: { click: act } });
}

/** Saves the results as a zip archive: a link could not carry the key. */
async function results(batch) {
  const answer = await call("GET", `/v1/batches/${batch.id}/results`, { query: { format: "zip" } });
  const url = URL.createObjectURL(await answer.blob());
  const link = el("a", { href: url, download: `${batch.id}.zip` });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

async function cancelled(batch, name) {
  const sure = await ask(`Cancel ${name}?`, "Every unfinished job in it is cancelled.", "Cancel them");
  if (sure) await request("POST", `/v1/batches/${batch.id}/cancel`);
}

async function removed(batch, name) {
  const sure = await ask(`Delete ${name}?`, `All ${batch.total} jobs with their audio and text are erased for good.`, "Delete them");
  if (sure) await request("DELETE", `/v1/batches/${batch.id}`);
}
