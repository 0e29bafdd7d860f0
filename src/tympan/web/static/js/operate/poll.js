// Asking again and again, without a storm: one question at a time, none while the page is hidden, fewer while it fails.

import { ApiError, pause } from "../api.js";

const LONGEST_MS = 60_000;
const FINAL = new Set([401, 403, 404]);

/** Calls `ask(signal)` now and every `everyMs` until the returned function is called. `ask` may take its time: the next
 *  call comes `everyMs` after its end. A failure doubles the wait up to a minute (`Retry-After` may ask for more) and is
 *  handed to `onError`; after being refused (401, 403, 404) nothing is asked any more: with another key the view is shown
 *  anew. While the page is hidden nothing is asked; when it is seen again, at once. */
export function poll(everyMs, ask, onError = () => {}) {
  const over = new AbortController();
  turns(everyMs, ask, onError, over.signal);
  return () => over.abort();
}

async function turns(everyMs, ask, onError, signal) {
  let failures = 0;
  while (!signal.aborted) {
    await seen(signal);
    if (signal.aborted) return;
    let least = 0;
    try {
      await ask(signal);
      failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      failures += 1;
      onError(error);
      if (error instanceof ApiError && FINAL.has(error.status)) return;
      least = (error.retryAfterS ?? 0) * 1000;
    }
    await pause(Math.max(least, Math.min(LONGEST_MS, everyMs * 2 ** failures)), signal).catch(() => {});
  }
}

/** Resolves once the page is seen. */
function seen(signal) {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const end = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", end);
      signal.removeEventListener("abort", end);
      resolve();
    };
    document.addEventListener("visibilitychange", end);
    signal.addEventListener("abort", end);
  });
}
