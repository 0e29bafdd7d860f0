// What the states of jobs and batches are called, and how far a job has come.

import { clock } from "../text.js";

/** State of a job: its name for people, and the kind of its tag. */
export const STATES = {
  queued: ["Queued", ""], running: ["Transcribing", "busy"], succeeded: ["Done", "good"],
  failed: ["Failed", "bad"], cancelled: ["Cancelled", ""], expired: ["Expired", "warn"],
};

/** Choices of the filter: name in the address, title, states. */
export const FILTERS = [
  ["", "All", []], ["open", "In progress", ["queued", "running"]], ["succeeded", "Done", ["succeeded"]],
  ["failed", "Failed", ["failed", "expired"]], ["cancelled", "Cancelled", ["cancelled"]],
];

/** Whether a job is still to change. */
export const isOpen = (job) => job.state === "queued" || job.state === "running";

/** Returns the share of a running job that is done, null while that is not known. */
export function share({ state, progress }) {
  return state === "running" && progress.audio_s_total ? Math.min(1, progress.audio_s_done / progress.audio_s_total) : null;
}

/** Returns how long a job's audio is, as far as that is known. */
export function length({ progress }) {
  return progress.audio_s_total === null ? "" : clock(progress.audio_s_total);
}

/** Returns what a job is called: the name of its file, or its id. */
export const nameOf = (job) => job.metadata.file || job.metadata.name || job.id;
