// One job: while it runs how far it is, then its transcript.

import { request } from "../api.js";
import { el, fill } from "../dom.js";
import { moment } from "../text.js";
import { openReader } from "./reader.js";
import { showEnded, showWaiting } from "./waiting.js";

/** Returns what a job is called: the name of its file where whoever handed it in has said so. */
export function titleOf(job) {
  const { filename, file, name, title } = job.metadata ?? {};
  return filename || file || name || title || job.id;
}

/** Shows the job that the address names. Returns what ends the view. */
export function show(root, { rest: [id], query }) {
  const stop = new AbortController();
  const { signal } = stop;
  const page = el("div", { class: "read stack" });
  fill(root, page);
  let leave = () => {};
  const lost = (error) => attempt(page, () => Promise.reject(error));
  const open = async (job) => {
    leave();
    leave = () => {};
    const body = el("div", { class: "read-page" });
    fill(page, head(job), body);
    document.title = `${titleOf(job)} · Tympan`;
    if (["queued", "running"].includes(job.state)) showWaiting(body, job, { signal, ended: (now) => attempt(page, () => open(now)), lost });
    else if (job.state === "succeeded") leave = await openReader(page, body, { job, title: titleOf(job), signal, from: seconds(query.get("t")) });
    else showEnded(body, job);
    if (signal.aborted) leave();
  };
  fill(page, el("p", { class: "empty", role: "status", text: "Loading…" }));
  attempt(page, async () => open(await request("GET", `/v1/jobs/${encodeURIComponent(id)}`, { signal })));
  return () => {
    stop.abort();
    leave();
  };
}

function seconds(text) {
  const value = Number.parseFloat(text);
  return Number.isFinite(value) && value >= 0 ? value : null;
}

/** Does `work`; what the server says against it stands on the page then. */
async function attempt(page, work) {
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError") return;
    fill(page, el("div", { class: "note bad stack tight", role: "alert" }, el("p", { text: error.message }),
      el("p", {}, el("a", { href: "#/jobs", text: "All jobs" }))));
    if (error.name !== "ApiError") throw error;
  }
}

function head(job) {
  const title = titleOf(job);
  return el("header", { class: "read-head" },
    el("div", { class: "grow" },
      el("p", { class: "small" }, el("a", { href: "#/jobs", text: "Jobs" })),
      el("h1", { dir: "auto", text: title }),
      el("div", { class: "row wrap facts" }, el("span", { class: "small soft", text: moment(job.finished_at ?? job.created_at) }))),
    el("div", { class: "row wrap head-tools" }));
}
