// A job that has no transcript: how far it is, or why it ended without one.

import { events, pause, request } from "../api.js";
import { ask, el, fill } from "../dom.js";
import { clock, span } from "../text.js";

const LOOK_MS = 2500;
const MOST_CHARS = 20_000;
const path = (job, rest = "") => `/v1/jobs/${encodeURIComponent(job.id)}${rest}`;

/** Shows a job that is queued or running; calls `ended(job)` once it is neither, and `lost(error)` when it is gone. */
export function showWaiting(root, job, { signal, ended, lost }) {
  const view = build(job);
  fill(root, view.node);
  tell(view, job);
  let [text, isOver] = ["", false];
  const look = async () => {
    const now = await request("GET", path(job), { signal }).catch((error) => error);
    if (isOver || signal.aborted) return;
    if (now.status === 404) {
      isOver = true;
      lost(now);
    }
    if (now instanceof Error) return; // It is asked for again.
    tell(view, now);
    if (!text && now.partial_text) view.text.textContent = now.partial_text.slice(-MOST_CHARS);
    if (["queued", "running"].includes(now.state)) return;
    isOver = true;
    ended(now);
  };
  const hear = (event) => {
    if (event.event === "segment") {
      text = `${text} ${event.data.text}`.trim().slice(-MOST_CHARS);
      view.text.textContent = text;
      view.said.hidden = false;
    } else if (event.event === "progress") tell(view, { ...view.job, progress: event.data });
    return event.event === "state" && !["queued", "running"].includes(event.data.state);
  };
  follow(look, signal, () => isOver);
  events(path(job, "/events"), { onEvent: hear, signal }).then(look).catch(() => {}); // Looking goes on without.
  view.cancel.addEventListener("click", () => cancel(view, job, look));
}

async function follow(look, signal, isOver) {
  while (!signal.aborted && !isOver()) {
    await pause(LOOK_MS, signal).catch(() => {});
    if (!signal.aborted && !isOver() && !document.hidden) await look();
  }
}

async function cancel(view, job, look) {
  if (!(await ask("Cancel this job?", "The work so far is lost. The audio is kept, so it can be tried again.", "Cancel the job"))) return;
  view.cancel.disabled = true;
  await request("POST", path(job, "/cancel")).catch((error) => {
    view.cancel.disabled = false;
    throw error;
  });
  await look();
}

function build(job) {
  const view = { job };
  view.state = el("p", { class: "tag busy" });
  view.bar = el("progress", { max: 1, "aria-label": "Progress of the transcription" });
  view.detail = el("p", { class: "soft number", "aria-live": "polite" });
  view.text = el("p", { class: "so-far", dir: "auto" });
  view.said = el("section", { class: "stack tight", hidden: true, "aria-label": "Text so far" }, el("h2", { text: "Text so far" }), view.text);
  view.cancel = el("button", { class: "button danger", type: "button", text: "Cancel" });
  view.node = el("div", { class: "card stack waiting" }, el("div", { class: "row wrap apart" }, view.state, view.cancel), view.bar, view.detail, view.said);
  return view;
}

function tell(view, job) {
  view.job = job;
  const { progress, queue_position: place, eta_s: eta } = job;
  view.state.textContent = job.state === "queued" ? "Waiting" : "Transcribing";
  const share = progress.audio_s_total ? progress.audio_s_done / progress.audio_s_total : null;
  if (share === null || job.state === "queued") view.bar.removeAttribute("value");
  else view.bar.value = share;
  const done = progress.audio_s_total ? `${clock(progress.audio_s_done)} of ${clock(progress.audio_s_total)}` : "";
  const queue = job.state === "queued" && place !== null && place !== undefined ? (place > 1 ? `Place ${place} in the queue` : "Next in the queue") : "";
  view.detail.textContent = [queue, done, Number.isFinite(eta) && eta !== null ? `about ${span(eta)} left` : ""].filter(Boolean).join(" · ")
    || (job.state === "queued" ? "It begins in a moment." : "The recording is being read.");
  if (job.partial_text) view.said.hidden = false;
}

const TITLES = { failed: "This job failed", cancelled: "This job was cancelled", expired: "This job missed its deadline" };

/** Shows a job that ended without a transcript, with its cause, what can be done, and a button that tries again. */
export function showEnded(root, job) {
  const fault = el("p", { class: "note bad", role: "alert", hidden: true });
  const retry = el("button", { class: "button main", type: "button", text: "Try again", on: { click: async () => {
    retry.disabled = true;
    try {
      const made = await request("POST", path(job, "/retry"));
      location.hash = `#/jobs/${made.id}`;
    } catch (error) {
      [retry.disabled, fault.hidden, fault.textContent] = [false, false, error.message];
    }
  } } });
  fill(root, el("div", { class: "card stack" }, el("h2", { text: TITLES[job.state] ?? job.state }),
    job.error && el("div", { class: "note bad stack tight" }, el("p", { text: job.error.message }), job.error.remedy && el("p", { text: job.error.remedy }),
      el("p", { class: "small soft", text: `Code: ${job.error.code}` })),
    fault, el("div", { class: "row wrap" }, retry, el("a", { class: "button", href: "#/jobs", text: "All jobs" }))));
}
