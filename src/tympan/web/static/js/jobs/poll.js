// Asking again without hammering: soon while something moves, later and later while nothing does, never unseen.

import { ApiError, pause } from "../api.js";

const FIRST_MS = 1500;
const MOST_MS = 15_000;

/** Calls `look(signal)` again and again; it returns whether something moves. `onError(error)` hears what fails, and null
 *  when it works again. Returns `{now(), stop()}`: look at once, and look no more. */
export function poll(look, onError) {
  const over = new AbortController();
  let wake = () => {};
  let waitMs = FIRST_MS;
  const rest = async () => {
    const woken = new AbortController();
    wake = () => woken.abort();
    await pause(waitMs, woken.signal).catch(() => {});
    while (document.hidden && !over.signal.aborted) await pause(500, over.signal).catch(() => {});
  };
  const run = async () => {
    while (!over.signal.aborted) {
      try {
        waitMs = (await look(over.signal)) ? FIRST_MS : Math.min(MOST_MS, waitMs * 1.5);
        onError(null);
      } catch (error) {
        if (over.signal.aborted) return;
        onError(error);
        if ([401, 403].includes(error.status)) return;
        if (!(error instanceof ApiError)) throw error;
        waitMs = Math.max(1000 * (error.retryAfterS ?? 0), Math.min(MOST_MS, waitMs * 2));
      }
      await rest();
    }
  };
  run();
  return { now: () => { waitMs = FIRST_MS; wake(); }, stop: () => { over.abort(); wake(); } };
}
