// Transcribe: hand over files, addresses or a recording, and watch them become text.

import { el, fill, notice } from "../dom.js";
import { addresses, chosen, dropped, pasted } from "./files.js";
import { optionsForm } from "./options.js";
import { addFiles, addJobs, addUrls, again, all, cancel, clear, isDone, start, subscribe } from "./queue.js";
import { recorder } from "./record.js";
import { row } from "./row.js";

const MOST_IDS = 100;

/** Shows the view in `root`. Returns what is called when it is left; uploads go on all the same. */
export function show(root, { query }) {
  const options = optionsForm();
  const take = ({ files, skipped }) => {
    if (skipped) notice(`${skipped} ${skipped === 1 ? "file was" : "files were"} left out: not audio or video, or too many at once.`, "warn");
    if (files.length) addFiles(files, options.read());
  };
  const tape = recorder((file, asked) => addFiles([{ name: file.name, file }], asked));
  const list = fileList(options.read);
  const place = dropPlace({ take, record: () => tape.start(options.read()), addUrls: (urls) => addUrls(urls, options.read()) });
  root.append(el("div", { class: "stack transcribe" },
    el("div", { class: "head" }, el("h1", { text: "Transcribe" }),
      el("p", { class: "soft", text: "Audio and video in, text out. Nothing leaves your server." })),
    options.node, place.node, tape.node, list.node));
  const stay = (event) => { if (tape.isOpen()) event.preventDefault(); };
  window.addEventListener("beforeunload", stay);
  const unheard = [listenToPage(place, take), subscribe(list.update), () => window.removeEventListener("beforeunload", stay)];
  start();
  addJobs((query.get("jobs") ?? "").split(",").filter((id) => /^job_\w+$/.test(id)).slice(0, MOST_IDS));
  list.update(null);
  return () => {
    tape.leave();
    for (const end of unheard) end();
  };
}

/** Where files are dropped and chosen, addresses pasted, and recordings begun. */
function dropPlace({ take, record, addUrls: add }) {
  const files = picker({ multiple: true, accept: "audio/*,video/*,.opus,.amr,.wma,.caf,.tta,.wv,.mkv" }, take);
  const folder = picker({ multiple: true, webkitdirectory: true }, take);
  const url = el("input", { type: "text", inputmode: "url", placeholder: "or a web address: https://…", "aria-label": "Web address of audio or video", autocomplete: "off", spellcheck: "false" });
  const send = (event) => {
    event.preventDefault();
    const found = addresses(url.value);
    if (!found.length) notice("A web address begins with https:// or http://.", "warn");
    else add(found);
    if (found.length) url.value = "";
  };
  const node = el("section", { class: "card drop", "aria-label": "New files" },
    el("p", { class: "drop-words" }, el("strong", { text: "Drop audio or video here" }), el("span", { class: "soft", text: "files or whole folders; pasting works too" })),
    el("div", { class: "row wrap middle" },
      el("button", { class: "button main", type: "button", text: "Choose files", on: { click: () => files.click() } }),
      el("button", { class: "button", type: "button", text: "Choose a folder", on: { click: () => folder.click() } }),
      el("button", { class: "button", type: "button", text: "Record", on: { click: record } })),
    el("form", { class: "row url", on: { submit: send } }, url, el("button", { class: "button", text: "Fetch" })),
    files, folder);
  return { node, url };
}

function picker(props, take) {
  const input = el("input", { type: "file", hidden: true, tabindex: -1, "aria-hidden": "true", ...props });
  input.addEventListener("change", () => {
    take(chosen(input));
    input.value = "";
  });
  return input;
}

/** Files may be dropped anywhere on the page, and pasted. Returns what ends that. */
function listenToPage({ node, url }, take) {
  const light = (on) => node.classList.toggle("over", on);
  const handlers = {
    dragover: (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      light(true);
    },
    dragleave: (event) => { if (!event.relatedTarget) light(false); },
    drop: async (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      light(false);
      take(await dropped(event.dataTransfer));
    },
    paste: (event) => {
      if (event.clipboardData.files.length) take(pasted(event.clipboardData));
      else if (!event.target.closest?.("input, textarea") && addresses(event.clipboardData.getData("text")).length) {
        url.value = event.clipboardData.getData("text").trim();
        url.focus();
      } else return;
      event.preventDefault();
    },
  };
  for (const [name, handler] of Object.entries(handlers)) document.addEventListener(name, handler);
  return () => { for (const [name, handler] of Object.entries(handlers)) document.removeEventListener(name, handler); };
}

/** The files so far, newest first. */
function fileList(options) {
  const rows = new Map();
  const summary = el("h2", {});
  const tools = el("div", { class: "row" });
  const list = el("ul", { class: "files", "aria-label": "Files" });
  const empty = el("p", { class: "empty", text: "Files that you add appear here, with their progress and a link to the text. You may close this page: files that have been uploaded go on." });
  const node = el("section", { class: "stack tight", "aria-label": "Progress" }, el("div", { class: "row apart wrap" }, summary, tools), list, empty);
  const update = (item) => {
    if (item) rows.get(item.id)?.update();
    else arrange(rows, list, options);
    tellSummary(summary, tools);
    empty.hidden = rows.size > 0;
    noteIds();
  };
  return { node, update };
}

function arrange(rows, list, options) {
  const items = all();
  const ids = new Set(items.map((item) => item.id));
  for (const [id, { node }] of rows) {
    if (ids.has(id)) continue;
    node.remove();
    rows.delete(id);
  }
  for (const item of items) {
    const known = rows.get(item.id);
    if (known) {
      known.update();
      continue;
    }
    const made = row(item, options);
    rows.set(item.id, made);
    list.prepend(made.node);
  }
}

const isStuck = ({ state }) => ["paused", "refused"].includes(state);

/** What can be done with many at once: when it makes sense, and what it does. */
const TOOLS = {
  "Continue all": { fits: () => all().filter(isStuck).length > 1, act: () => all().filter(isStuck).forEach((item) => again(item)) },
  "Cancel all": {
    fits: () => all().filter((item) => !isDone(item)).length > 1,
    act: () => all().filter((item) => !isDone(item)).forEach((item) => cancel(item)),
  },
  "Clear finished": { fits: () => all().some(isDone), act: () => clear(all().filter(isDone)) },
};

function tellSummary(summary, tools) {
  const items = all();
  const text = items.length ? `${items.filter(isDone).length} of ${items.length} done` : "No files yet";
  if (summary.textContent !== text) summary.textContent = text;
  const wanted = Object.keys(TOOLS).filter((title) => TOOLS[title].fits());
  if (tools.dataset.shown === wanted.join()) return;
  tools.dataset.shown = wanted.join();
  fill(tools, wanted.map((title) => el("button", { class: "button small quiet", type: "button", text: title, on: { click: TOOLS[title].act } })));
}

/** Writes the ids of the jobs into the address: it can be kept, sent, and loaded again elsewhere. */
function noteIds() {
  const ids = all().map((item) => item.job).filter(Boolean).slice(-MOST_IDS);
  const hash = ids.length ? `#/transcribe?jobs=${ids.join(",")}` : "#/transcribe";
  if (/^#\/transcribe(\?|$)|^#?\/?$/.test(location.hash) && location.hash !== hash) history.replaceState(null, "", hash);
}
