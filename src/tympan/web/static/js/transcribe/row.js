// One file on its way, as a row of the list.

import { ask, el, fill, notice } from "../dom.js";
import { bytes, clock, language, span } from "../text.js";
import { digest } from "./options.js";
import { again, cancel, clear, giveFile, isDone, pauseItem, retryJob } from "./queue.js";

const WORDS = {
  waiting: ["Waiting", ""], uploading: ["Uploading", "busy"], handing: ["Submitting", "busy"], paused: ["Paused", "warn"],
  missing: ["Choose the file again", "warn"], refused: ["Refused", "bad"], queued: ["Queued", ""], running: ["Transcribing", "busy"],
  succeeded: ["Done", "good"], failed: ["Failed", "bad"], cancelled: ["Cancelled", ""], expired: ["Expired", "warn"], gone: ["Erased", "warn"],
};

/** Returns `{node, update()}` for an item; `options()` are those that a retry is to be asked with. */
export function row(item, options) {
  const parts = {
    name: el("span", { class: "name clip" }), tag: el("span", { class: "tag" }), facts: el("p", { class: "facts soft small" }),
    bar: el("progress", { max: 1 }), note: el("p", { class: "note", hidden: true }), text: el("p", { class: "heard small", hidden: true }),
    buttons: el("div", { class: "row buttons" }),
  };
  const node = el("li", { class: "file card" },
    el("div", { class: "row apart" }, el("div", { class: "row grow" }, parts.name, parts.tag), parts.buttons),
    parts.bar, parts.facts, parts.note, parts.text);
  let shown = "";
  const update = () => {
    const [word, kind] = WORDS[item.state] ?? [item.state, ""];
    parts.tag.textContent = word;
    parts.tag.className = `tag ${kind}`;
    node.dataset.state = item.state;
    showName(parts.name, item);
    showBar(parts.bar, item);
    parts.facts.textContent = facts(item);
    showNote(parts.note, item);
    const text = item.state === "running" || item.state === "succeeded" ? item.text ?? "" : "";
    parts.text.hidden = !text;
    parts.text.textContent = text;
    if (shown !== item.state) fill(parts.buttons, buttons(item, options));
    shown = item.state;
  };
  update();
  return { node, update };
}

function showName(node, item) {
  node.title = item.name;
  const link = node.querySelector("a");
  if (item.job && item.state === "succeeded") {
    if (link?.textContent !== item.name) fill(node, el("a", { href: `#/jobs/${item.job}`, text: item.name }));
  } else if (node.textContent !== item.name || link) fill(node, item.name);
}

function showBar(bar, item) {
  const { state, size, offset, progress } = item;
  bar.hidden = isDone(item) || ["refused", "missing"].includes(state);
  bar.setAttribute("aria-label", `${state === "running" ? "Transcription" : "Upload"} of ${item.name}`);
  if (state === "running" && progress?.audio_s_total) bar.value = progress.audio_s_done / progress.audio_s_total;
  else if (state === "running" || state === "handing") bar.removeAttribute("value");
  else if (state === "queued") bar.value = 0;
  else bar.value = size ? offset / size : 0;
}

/** What there is to say of an item beside its state, in a line. */
function facts(item) {
  const { state, size, offset, rate, progress, position, endsAt } = item;
  const left = endsAt ? (endsAt - Date.now()) / 1000 : 0;
  const total = progress?.audio_s_total;
  const said = [];
  if (["uploading", "paused", "missing"].includes(state)) said.push(`${bytes(offset)} of ${bytes(size)}`);
  else if (size !== null) said.push(bytes(size));
  if (state === "uploading" && rate > 0) said.push(`${bytes(rate)}/s`, `about ${span((size - offset) / rate)} left`);
  if (state === "queued") said.push(position === null || position === undefined ? "waiting for its turn" : position > 0 ? `${position} before it` : "next");
  if (state === "running") said.push(total ? `${clock(progress.audio_s_done)} of ${clock(total)}` : "reading the audio");
  if (left > 1 && (state === "queued" || (state === "running" && total))) said.push(`about ${span(left)} left`);
  if (state === "succeeded") said.push(total && clock(total), language(item.language));
  else if (item.options) said.push(digest(item.options));
  return said.filter(Boolean).join(" · ");
}

function showNote(note, item) {
  const fault = item.fault ?? item.error;
  const words = {
    missing: "The browser did not keep this file. Choose it again, and the upload goes on where it was.",
    gone: "The server no longer has this job.",
  };
  const bad = ["refused", "failed", "expired"].includes(item.state) && fault;
  const text = bad ? [fault.message, fault.remedy].filter(Boolean).join(" ") : words[item.state] ?? (isDone(item) ? "" : item.unseen ?? "");
  note.hidden = !text;
  note.className = `note small ${bad ? "bad" : "warn"}`;
  note.textContent = text;
}

function buttons(item, options) {
  const { state } = item;
  const found = [];
  if (["uploading", "waiting"].includes(state) && item.kind === "file") found.push(button("Pause", item, () => pauseItem(item)));
  if (state === "paused") found.push(button("Continue", item, () => again(item)));
  if (state === "refused") found.push(button("Try again", item, () => again(item, options())));
  if (state === "missing") found.push(choose(item));
  if (["failed", "expired", "cancelled"].includes(state) && item.job) found.push(button("Try again", item, () => retryJob(item)));
  if (state === "succeeded") found.push(el("a", { class: "button small main", href: `#/jobs/${item.job}`, "aria-label": `Read ${item.name}`, text: "Read" }));
  if (isDone(item) || state === "refused") found.push(button("×", item, () => clear([item]), "Remove from the list"));
  else found.push(button("Cancel", item, () => cancelled(item)));
  return found;
}

async function cancelled(item) {
  const sure = item.state !== "running" || (await ask(`Cancel ${item.name}?`, "The text so far is lost.", "Cancel it"));
  if (sure) await cancel(item);
}

function button(text, item, act, meaning = text) {
  return el("button", { class: `button small ${text === "×" ? "quiet icon" : ""}`, type: "button", "aria-label": `${meaning}: ${item.name}`, text, on: { click: act } });
}

function choose(item) {
  const input = el("input", { type: "file", hidden: true, "aria-hidden": "true", tabindex: -1 });
  input.addEventListener("change", () => {
    if (input.files[0] && !giveFile(item, input.files[0])) notice(`That is a different file: ${item.name} has ${bytes(item.size)}.`, "warn");
  });
  return [button("Choose it again", item, () => input.click()), input];
}
