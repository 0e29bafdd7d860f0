// Uploads that go on where they broke off: the tus protocol of /v1/uploads, in pieces.

import { ApiError, call, pause } from "../api.js";

const ROOT = "/v1/uploads";
const VERSION = { "tus-resumable": "1.0.0" };
const LEAST_PIECE = 256 << 10;
const MOST_PIECE = 8 << 20;
const MOST_PIECES = 15_000;
const PIECE_S = 1.5;
const TRIES_MS = [500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000, 15_000, 15_000, 15_000];

/** Begins an upload and returns its id. Throws `ApiError`. */
export async function begin(size, signal) {
  const answer = await patiently(signal, () => call("POST", ROOT, { signal, headers: { ...VERSION, "upload-length": String(size) } }));
  return answer.headers.get("location").split("/").pop();
}

/** Sends what is missing of `file`, telling `onProgress(offset)` after each piece.
 *  Returns false when the server does not know the upload any more. Throws `ApiError`. */
export async function send(id, file, { signal, onProgress }) {
  const state = { offset: null, piece: Math.max(LEAST_PIECE, Math.ceil(file.size / MOST_PIECES)) };
  const least = state.piece;
  while (state.offset === null || state.offset < file.size) {
    const known = await patiently(signal, () => step(id, file, state, least, signal), () => { state.offset = null; });
    if (!known) return false;
    onProgress(state.offset);
  }
  return true;
}

/** Removes an upload; one that is gone is none to remove. */
export async function end(id) {
  await call("DELETE", `${ROOT}/${id}`, { headers: VERSION }).catch(() => {});
}

/** Asks how far the server has come, or sends one piece. Returns whether there is such an upload. */
async function step(id, file, state, least, signal) {
  try {
    if (state.offset === null) {
      const answer = await call("HEAD", `${ROOT}/${id}`, { signal, headers: VERSION });
      state.offset = Number(answer.headers.get("upload-offset"));
      return true;
    }
    const { offset } = state;
    const body = await readPiece(file, offset, state.piece);
    const began = performance.now();
    const headers = { ...VERSION, "upload-offset": String(offset), "content-type": "application/offset+octet-stream" };
    const answer = await call("PATCH", `${ROOT}/${id}`, { signal, headers, body });
    state.offset = Number(answer.headers.get("upload-offset"));
    const seconds = Math.max(0.05, (performance.now() - began) / 1000);
    const fitting = ((state.offset - offset) / seconds) * PIECE_S;
    state.piece = Math.round(Math.min(MOST_PIECE, Math.max(least, Math.min(fitting, 2 * state.piece))));
    return true;
  } catch (error) {
    if (error.status === 404 || error.status === 410) return false;
    throw error;
  }
}

async function readPiece(file, start, length) {
  try {
    return await file.slice(start, start + length).arrayBuffer();
  } catch {
    throw new ApiError(0, { message: "The file can no longer be read. Was it changed, moved or deleted? Choose it again.", code: "file_lost" });
  }
}

/** Does something again while it fails in a way that passes: no connection, a server that starts, a limit. */
export async function patiently(signal, work, onFailure = () => {}) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await work();
    } catch (error) {
      const passes = error instanceof ApiError && error.code !== "file_lost" && ([0, 408, 409, 423, 429].includes(error.status) || (error.status >= 500 && error.status !== 507));
      if (!passes || tries >= TRIES_MS.length) throw error;
      onFailure();
      await pause(Math.max(TRIES_MS[tries], 1000 * Math.min(60, error.retryAfterS ?? 0)), signal);
    }
  }
}
