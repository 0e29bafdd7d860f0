// The files on their way: uploaded a few at a time, handed in as jobs, followed until they have ended. It goes on while
// other views are shown, and after a reload from what is remembered.

import { ApiError, key, request } from "../api.js";
import { hasEnded, watch } from "./follow.js";
import { fields } from "./options.js";
import { dropFile, findFile, forget, keepFile, listen, recall, remember, remembered, sweepFiles } from "./store.js";
import * as tus from "./tus.js";

const AT_ONCE = 2;
const ELSEWHERE_MS = 5000;
const MOST_NAME_CHARS = 300;

/** `waiting`, `uploading`, `handing`, then the states of a job; and `paused`, `missing` (the file), `refused` (an error). */
const items = new Map();
const files = new Map();
const working = new Map();
const watching = new Map();
const changes = new EventTarget();
let started = false;

/** Returns the items in the order in which they came. */
export const all = () => [...items.values()];

/** Calls `seen(item)` after every change; `item` is null when the list itself has changed. Returns what ends that. */
export function subscribe(seen) {
  const heard = ({ detail }) => seen(detail);
  changes.addEventListener("change", heard);
  return () => changes.removeEventListener("change", heard);
}

/** Takes up what is remembered, once; and what waits for another key, whenever it is called. */
export function start() {
  if (!started) {
    started = true;
    for (const item of remembered()) {
      items.set(item.id, item);
      if (["uploading", "handing"].includes(item.state)) item.state = "waiting";
    }
    sweepFiles(new Set(items.keys()));
    listen(fromAnotherTab);
    setInterval(() => { if (all().some((item) => item.state === "waiting")) next(); }, ELSEWHERE_MS);
  }
  for (const item of items.values()) {
    if (item.state === "refused" && item.error.status === 401 && item.error.key !== digestOf(key.get())) again(item);
    else if (item.job && !hasEnded(item.state)) follow(item);
  }
  next();
}

/** Adds files (`[{name, file}]`) with these options. */
export async function addFiles(list, options) {
  const added = list.map(({ name, file }) => {
    const item = add({ kind: "file", name: name.slice(0, MOST_NAME_CHARS), size: file.size }, options);
    files.set(item.id, file);
    return item;
  });
  tell(null);
  next();
  for (const [at, item] of added.entries()) await keep(item, list[at].file);
}

/** Adds addresses of audio. */
export function addUrls(urls, options) {
  for (const url of urls) add({ kind: "url", url, name: nameOf(url), size: null }, options);
  tell(null);
  next();
}

/** Adds jobs that were handed in elsewhere, by their ids: from an address with `jobs=` in it. */
export function addJobs(ids) {
  for (const id of ids) {
    if (all().some((item) => item.job === id)) continue;
    const item = add({ kind: "job", job: id, name: id, size: null, state: "queued" }, null);
    follow(item);
  }
  tell(null);
}

/** Gives an item whose file is gone from here its file again. Returns whether it is the same one. */
export function giveFile(item, file) {
  if (file.size !== item.size) return false;
  files.set(item.id, file);
  again(item);
  return true;
}

/** Stops an upload; what has arrived stays there. */
export function pauseItem(item) {
  put(item, { state: "paused" });
  working.get(item.id)?.abort();
}

/** Goes on with what was paused or refused. What was refused for what it asked is asked with `options` instead. */
export function again(item, options = item.options) {
  const asked = item.error?.status >= 400 && item.error.status < 500;
  put(item, { state: "waiting", error: null, rate: 0, ...(asked ? { options, turn: (item.turn ?? 0) + 1 } : {}) });
  next();
}

/** Makes a new job of one that failed, expired or was cancelled. Throws `ApiError`. */
export async function retryJob(item) {
  const job = await request("POST", `/v1/jobs/${item.job}/retry`);
  put(item, { job: job.id, state: job.state, fault: null, progress: job.progress, text: "" });
  tell(null);
  follow(item);
}

/** Stops an item wherever it is: an upload is removed, a job cancelled. Throws `ApiError`. */
export async function cancel(item) {
  if (item.job) {
    const job = await request("POST", `/v1/jobs/${item.job}/cancel`);
    put(item, { state: job.state });
    return;
  }
  put(item, { state: "cancelled" });
  working.get(item.id)?.abort();
  files.delete(item.id);
  dropFile(item.id);
  if (item.upload) tus.end(item.upload);
}

/** Takes items off the list; their jobs stay where they are. */
export function clear(list) {
  for (const item of list) {
    watching.get(item.id)?.abort();
    items.delete(item.id);
    files.delete(item.id);
    forget(item.id);
  }
  tell(null);
}

/** Whether an item is neither on its way nor waiting for somebody. */
export const isDone = (item) => hasEnded(item.state) || item.state === "gone";

function add(what, options) {
  const item = { id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`.replace("0.", ""), at: Date.now() + items.size / 1e4, state: "waiting", options, offset: 0, ...what };
  items.set(item.id, item);
  remember(item);
  return item;
}

function put(item, changed) {
  Object.assign(item, changed);
  if (items.has(item.id)) remember(item);
  tell(item);
}

function tell(item) {
  changes.dispatchEvent(new CustomEvent("change", { detail: item }));
}

async function keep(item, file) {
  if (item.job || item.state === "cancelled") return;
  const inUse = all().filter((each) => each.kept).reduce((sum, each) => sum + each.size, 0);
  if ((await keepFile(item.id, file, inUse)) && items.has(item.id) && !item.job) put(item, { kept: true });
  else dropFile(item.id);
}

function nameOf(url) {
  try {
    const { host, pathname } = new URL(url);
    return decodeURIComponent(pathname.split("/").pop() || host).slice(0, MOST_NAME_CHARS);
  } catch {
    return url.slice(0, MOST_NAME_CHARS);
  }
}

function next() {
  for (const item of items.values()) {
    if (working.size >= AT_ONCE) return;
    if (item.state === "waiting" && !working.has(item.id)) work(item);
  }
}

/** Brings one item from where it is to a job, unless another tab does. */
async function work(item) {
  const stop = new AbortController();
  working.set(item.id, stop);
  try {
    await alone(item.id, async () => {
      Object.assign(item, recall(item.id) ?? {}, { state: item.state });
      if (!item.job) await bring(item, stop.signal);
      if (item.job) follow(item);
    });
  } catch (error) {
    if (error.name !== "AbortError") refuse(item, error);
  } finally {
    working.delete(item.id);
    setTimeout(next, 0);
  }
}

/** Does the work unless another tab is doing it; browsers without locks have to trust their tabs. */
async function alone(id, work) {
  if (!navigator.locks) return work();
  return navigator.locks.request(`tympan.${id}`, { ifAvailable: true }, (lock) => (lock ? work() : undefined));
}

async function bring(item, signal) {
  if (item.kind === "file" && !(await upload(item, signal))) return;
  signal.throwIfAborted();
  put(item, { state: "handing" });
  const source = item.kind === "url" ? { audio_url: item.url } : { upload_id: item.upload };
  const json = { ...fields(item.options), ...source, metadata: { file: item.name } };
  // The key makes one job of it, however often it is sent: an answer may have been lost with the page.
  const headers = { "idempotency-key": `${item.id}:${item.turn ?? 0}` };
  const job = await tus.patiently(signal, () => request("POST", "/v1/jobs", { json, headers, signal }));
  put(item, { job: job.id, state: job.state, progress: job.progress, kept: false, rate: 0 });
  files.delete(item.id);
  dropFile(item.id);
  tell(null);
}

/** Uploads an item's file; returns false when the file is not here. */
async function upload(item, signal) {
  const file = files.get(item.id) ?? (await findFile(item.id));
  if (!file) {
    put(item, { state: "missing" });
    return false;
  }
  files.set(item.id, file);
  put(item, { state: "uploading" });
  for (let begun = 0; begun < 3; begun += 1) {
    if (!item.upload) put(item, { upload: await tus.begin(file.size, signal), offset: 0 });
    if (await tus.send(item.upload, file, { signal, onProgress: (offset) => measure(item, offset) })) return true;
    put(item, { upload: null, offset: 0, turn: (item.turn ?? 0) + 1 });
  }
  throw new ApiError(0, { message: "The server keeps losing this upload. Try again later.", code: "upload_lost" });
}

/** Notes how far an upload has come, and its pace as of late in bytes per second. */
function measure(item, offset) {
  const now = performance.now();
  const seen = measured.get(item.id);
  if (seen && offset > seen.offset) {
    const rate = ((offset - seen.offset) * 1000) / Math.max(1, now - seen.at);
    item.rate = item.rate ? 0.7 * item.rate + 0.3 * rate : rate;
  }
  measured.set(item.id, { offset, at: now });
  put(item, { offset });
}
const measured = new Map();

function refuse(item, error) {
  const { message, status = 0, code = "" } = error;
  put(item, { state: "refused", error: { message, status, code, key: digestOf(key.get()) } });
  if (status === 404 || status === 410) put(item, { upload: null, offset: 0, turn: (item.turn ?? 0) + 1 });
}

/** So much of a key that another one is known to be another, and nobody learns it. */
function digestOf(text) {
  return [...text].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 9973, 7);
}

function follow(item) {
  if (watching.has(item.id)) return;
  const stop = new AbortController();
  watching.set(item.id, stop);
  watch(item, (changed) => put(item, changed), stop.signal).finally(() => watching.delete(item.id));
}

function fromAnotherTab(id) {
  const theirs = recall(id);
  if (working.has(id)) return;
  if (!theirs) items.delete(id);
  else if (!items.has(id)) items.set(id, theirs);
  else Object.assign(items.get(id), theirs, theirs.state === "uploading" || theirs.state === "handing" ? { state: "waiting" } : {});
  const mine = items.get(id);
  if (mine?.job && !hasEnded(mine.state)) follow(mine);
  tell(null);
}
