// A job as it goes on: asked for as often as the server likes, and heard of in between where there is room for a stream.

import { call, events, pause } from "../api.js";

const STREAMS = 2;  // A browser opens few connections to one server; uploads and everything else need some.
const MOST_WAIT_S = 60;
const TEXT_CHARS = 600;
const SHORT_S = 600;
const ENDED = new Set(["succeeded", "failed", "cancelled", "expired"]);
let streams = 0;

/** Whether this is a state that stays. */
export const hasEnded = (state) => ENDED.has(state);

/** Follows a job until it has ended, telling `put(changed)`. Gives up, and says why, when it is gone or a key is wanted. */
export async function watch(item, put, signal) {
  let failures = 0;
  const poke = { now: () => {} };
  while (!signal.aborted) {
    let waitS = 2;
    try {
      const answer = await call("GET", `/v1/jobs/${item.job}`, { signal });
      const job = await answer.json();
      failures = 0;
      put(seen(item, job));
      if (job.state === "succeeded") put({ text: await beginning(item, signal) });
      if (hasEnded(job.state)) return;
      waitS = Number.parseFloat(answer.headers.get("retry-after")) || waitS;
      if (job.state === "running") listen(item, put, signal, poke);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status === 404) return put({ state: "gone", error: { message: "The server no longer has this job.", status: 404 } });
      if ([401, 403].includes(error.status)) return put({ unseen: error.message });
      failures += 1;
      put({ unseen: error.message });
      waitS = Math.max(error.retryAfterS ?? 0, Math.min(2 ** failures, 15));
    }
    await rest(Math.min(MOST_WAIT_S, waitS), signal, poke).catch(() => {});
  }
}

/** What the answer about a job changes in its item. */
function seen(item, job) {
  return {
    state: job.state,
    name: item.kind === "job" ? job.metadata.file ?? job.id : item.name,
    progress: job.progress,
    position: job.queue_position,
    endsAt: job.eta_s === null ? null : Date.now() + job.eta_s * 1000,
    fault: job.error,
    language: job.language,
    text: tail(job.partial_text ?? item.text ?? ""),
    unseen: null,
  };
}

/** Returns how a short transcript begins, nothing of a long one. */
async function beginning(item, signal) {
  if (!(item.progress?.audio_s_total < SHORT_S)) return "";
  const answer = await call("GET", `/v1/jobs/${item.job}/result`, { query: { format: "text" }, signal });
  return (await answer.text()).trim().slice(0, TEXT_CHARS);
}

/** Hears of progress and text as they come, if few others are heard of. */
async function listen(item, put, signal, poke) {
  if (item.heard || streams >= STREAMS) return;
  streams += 1;
  Object.defineProperty(item, "heard", { value: true, configurable: true, enumerable: false });
  try {
    await events(`/v1/jobs/${item.job}/events`, { signal, onEvent: ({ event, data }) => {
      if (event === "progress") put({ progress: data });
      else if (event === "segment") put({ text: tail(`${item.text ?? ""} ${data.text}`) });
      else if (hasEnded(data.state)) {
        poke.now();
        return true;
      }
      return false;
    } });
  } catch { /* Asking goes on all the same. */ } finally {
    streams -= 1;
    delete item.heard;
  }
}

const tail = (text) => (text.length > TEXT_CHARS ? `…${text.slice(-TEXT_CHARS)}` : text).trim();

/** Waits for so long, for a poke, or for the page to be seen again; while it is not seen, for as long as it takes. */
async function rest(seconds, signal, poke) {
  const woken = new AbortController();
  const wake = () => woken.abort();
  poke.now = wake;
  signal.addEventListener("abort", wake);
  await pause(seconds * 1000, woken.signal).catch(() => {});
  while (document.hidden && !signal.aborted) await pause(1000, signal);
  signal.removeEventListener("abort", wake);
}
