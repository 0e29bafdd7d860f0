// The public API. Whatever fails becomes an `ApiError` with the server's own cause and remedy.

const KEY = "tympan.key";
const RETRY_MS = [500, 1000, 2000, 4000, 8000, 15000];

/** What the server said no with. `status` is 0 when it was not reached at all. */
export class ApiError extends Error {
  constructor(status, { message, code = "", param = null } = {}, retryAfterS = null) {
    super(message || `The server answered ${status}.`);
    Object.assign(this, { name: "ApiError", status, code, param, retryAfterS });
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) || localStorage.getItem(KEY) || "",
  set(value, { remember = false } = {}) {
    key.forget();
    if (value) (remember ? localStorage : sessionStorage).setItem(KEY, value);
  },
  forget() {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
  },
};

/** Returns the headers that say who asks. */
export function identity() {
  return key.get() ? { authorization: `Bearer ${key.get()}` } : {};
}

/** Returns `path` with `query`; lists become repeated names, and empty values are left out. */
export function address(path, query = {}) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    for (const one of Array.isArray(value) ? value : [value])
      if (one !== null && one !== undefined && one !== "") params.append(name, one);
  const text = params.toString();
  return text ? `${path}?${text}` : path;
}

/** Asks and returns the Response, whatever its type. `json` or `body` is what is sent. Throws `ApiError`. */
export async function call(method, path, { query, json, body, headers = {}, signal } = {}) {
  const used = key.get();
  let answer;
  try {
    answer = await fetch(address(path, query), {
      method, signal, cache: "no-store", credentials: "omit",
      headers: { ...identity(), ...(json === undefined ? {} : { "content-type": "application/json" }), ...headers },
      body: json === undefined ? body : JSON.stringify(json),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The server cannot be reached. Is it running, and are you online?", code: "unreachable" });
  }
  if (!answer.ok) throw await failure(answer, used);
  return answer;
}

/** Asks and returns what the answer's JSON says; `null` for an empty one. Throws `ApiError`. */
export async function request(method, path, options) {
  const answer = await call(method, path, options);
  const text = await answer.text();
  return text ? JSON.parse(text) : null;
}

/** Makes an `ApiError` of an answer; one that wants a key also asks the person for it, unless there is another than the
 *  one that was `used` by now. */
export async function failure(answer, used = key.get()) {
  const body = await answer.json().catch(() => null);
  const after = Number.parseFloat(answer.headers.get("retry-after"));
  const error = new ApiError(answer.status, body?.error, Number.isFinite(after) ? after : null);
  if (answer.status === 401 && used === key.get()) window.dispatchEvent(new CustomEvent("tympan:key-wanted", { detail: error.message }));
  return error;
}

/** Reads server-sent events and hands each to `onEvent({event, data, id})` until the server says there are no more.
 *  A broken connection is taken up where it broke, a bounded number of times in a row. Throws `ApiError`. */
export async function events(path, { onEvent, signal }) {
  let [last, failures] = ["", 0];
  for (;;) {
    try {
      const answer = await call("GET", path, { signal, headers: last ? { "last-event-id": last } : {} });
      if (answer.status === 204) return;
      const ended = await readEvents(answer.body, (event) => {
        failures = 0;
        last = event.id || last;
        return onEvent(event);
      });
      if (ended) return;
    } catch (error) {
      const passes = error instanceof ApiError ? error.status === 0 || error.status >= 500 || error.status === 429 : error.name !== "AbortError";
      if (!passes || failures >= RETRY_MS.length) throw error;
    }
    if (failures >= RETRY_MS.length) throw new ApiError(0, { message: "The connection keeps breaking. Check the network and try again.", code: "unreachable" });
    await pause(RETRY_MS[failures++], signal);
  }
}

/** Returns whether `onEvent` answered `true`: it has heard enough. */
async function readEvents(body, onEvent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return false;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const event = { event: "message", data: "", id: "" };
      for (const line of part.split("\n")) {
        const at = line.indexOf(":");
        if (at > 0) event[line.slice(0, at)] = (line.slice(0, at) === "data" && event.data ? `${event.data}\n` : "") + line.slice(at + 1).replace(/^ /, "");
      }
      if (event.data && onEvent({ ...event, data: JSON.parse(event.data) }) === true) {
        await reader.cancel();
        return true;
      }
    }
  }
}

/** Waits; an aborted wait throws as `fetch` does. */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => { clearTimeout(timer); reject(new DOMException("Aborted", "AbortError")); };
    const timer = setTimeout(() => { signal?.removeEventListener("abort", stop); resolve(); }, ms);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Returns an open WebSocket to `path`, with the key as a subprotocol where there is one. */
export function socket(path, query, protocols = []) {
  const url = new URL(address(path, query), location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return new WebSocket(url, key.get() ? [...protocols, `openai-insecure-api-key.${key.get()}`] : protocols);
}
