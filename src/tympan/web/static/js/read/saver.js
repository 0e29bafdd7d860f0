// Saves the edited version as it changes: one request at a time, each on top of the revision that it was made from.

import { ApiError, call, pause, request } from "../api.js";
import { nameOf, speakersOf } from "./model.js";

const WAIT_MS = 700;
const RETRIES_MS = [2000, 5000, 15_000, 30_000];

/** Keeps the server's edited version in step with a manuscript. Tells `state`; `state` is one of `none` (there is no
 *  edited version), `saved`, `dirty`, `saving`, `conflict`, `failed`, and `error` says why. */
export class Saver extends EventTarget {
  #path;
  #manuscript;
  #stop = new AbortController();
  #timer = 0;
  #stored = null;
  #running = null;
  state = "none";
  error = null;
  revision = 0;
  editedAt = null;

  constructor(jobId, manuscript) {
    super();
    this.#path = `/v1/jobs/${encodeURIComponent(jobId)}/edited`;
    this.#manuscript = manuscript;
  }

  /** Reads the edited version, if there is one. Throws `ApiError`. */
  async open(signal) {
    const found = await this.theirs(signal);
    if (found) {
      this.#manuscript.load(found);
      this.#accept(found);
    }
    this.#stored = this.#manuscript.doc;
    this.#manuscript.addEventListener("change", () => this.#changed());
    this.#say(found ? "saved" : "none");
  }

  /** Returns what the server has, `null` for nothing. Throws `ApiError`. */
  async theirs(signal) {
    try {
      return await request("GET", this.#path, { signal });
    } catch (error) {
      if (error.status === 404) return null;
      throw error;
    }
  }

  #accept({ revision, edited_at: editedAt }) {
    [this.revision, this.editedAt] = [revision, editedAt];
  }

  #say(state, error = null) {
    [this.state, this.error] = [state, error];
    this.dispatchEvent(new Event("state"));
  }

  get isPending() { return this.state === "dirty" || this.state === "saving" || this.state === "conflict" || this.state === "failed"; }

  #changed() {
    if (this.#manuscript.doc === this.#stored || this.state === "conflict") return;
    this.#say("dirty");
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.flush(), WAIT_MS);
  }

  /** Saves now what is not saved yet; resolves when that is done or has failed. */
  async flush() {
    clearTimeout(this.#timer);
    if (this.#running) return this.#running;
    if (this.state !== "dirty" && this.state !== "failed") return null;
    this.#running = this.#saveAll().finally(() => { this.#running = null; });
    return this.#running;
  }

  async #saveAll() {
    for (let tries = 0; this.#manuscript.doc !== this.#stored; ) {
      const { doc } = this.#manuscript;
      this.#say("saving");
      try {
        this.#accept(await this.#put(doc, this.revision));
        [this.#stored, tries] = [doc, 0];
      } catch (error) {
        if (error.name === "AbortError") return;
        if (error.status === 409 || error.status === 412) return this.#say("conflict", error);
        this.#say("failed", error);
        const mayPass = error instanceof ApiError && (error.status === 0 || error.status === 429 || error.status >= 500);
        if (!mayPass || tries >= RETRIES_MS.length) return;
        await pause(RETRIES_MS[tries++], this.#stop.signal).catch(() => {});
        if (this.#stop.signal.aborted) return;
      }
    }
    this.#say("saved");
  }

  #put(doc, revision) {
    const headers = revision ? { "if-match": `"${revision}"` } : { "if-none-match": "*" };
    const segments = doc.segments.map(({ start, end, text, speaker }, id) => ({ id, start, end, text, speaker: speaker ?? null }));
    return request("PUT", this.#path, { json: { speakers: { ...this.#added(doc), ...doc.speakers }, segments }, headers });
  }

  /** Names the speakers that the original does not know: the server wants to be told who they are. */
  #added(doc) {
    const known = new Set(speakersOf(this.#manuscript.original));
    return Object.fromEntries(speakersOf(doc).filter((label) => !known.has(label)).map((label) => [label, nameOf(label, doc)]));
  }

  /** Settles a conflict: takes what the server has; undo brings back what was here. Throws `ApiError`. */
  async loadTheirs() {
    const found = await this.theirs();
    if (!found) return this.overwrite();
    this.#accept(found);
    this.#say("saved");
    this.#manuscript.load(found, "other person's version");
    this.#stored = this.#manuscript.doc;
    this.#say("saved");
    return null;
  }

  /** Settles a conflict: puts what is here in the place of what the server has. Throws `ApiError`. */
  async overwrite() {
    const found = await this.theirs();
    this.revision = found?.revision ?? 0;
    this.#stored = null;
    this.#say("dirty");
    return this.flush();
  }

  /** Removes the edited version; the original stays. Throws `ApiError`. */
  async discard() {
    clearTimeout(this.#timer);
    await this.#running;
    if (this.revision) await call("DELETE", this.#path);
    [this.revision, this.editedAt] = [0, null];
    this.#say("saved");
    this.#manuscript.load(this.#manuscript.original, "way back to the original");
    this.#stored = this.#manuscript.doc;
    this.#say("none");
  }

  /** Ends; what is not saved is sent off first. */
  close() {
    this.flush().catch(() => {});
    clearTimeout(this.#timer);
    this.#stop.abort();
  }
}
