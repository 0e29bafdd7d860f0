// The frame: which view is shown, the key, the theme, and how the server is.

import { ApiError, key, pause, request } from "./api.js";
import { dialog, el, field, fill, notice } from "./dom.js";

const VIEWS = [
  ["transcribe", "Transcribe", () => import("./transcribe/view.js")],
  ["jobs", "Jobs", () => import("./jobs/view.js")],
  ["operate", "Operate", () => import("./operate/view.js")],
  ["admin", "Admin", () => import("./admin/view.js")],
];
const READ = () => import("./read/view.js");
const HEALTH_MS = 15_000;

const root = document.getElementById("view");
let leave = () => {};
let turn = 0;

/** Shows what the address says: `#/jobs/job_123?t=12` is the transcript of a job. */
async function route() {
  const mine = ++turn;
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(decodeURIComponent);
  const found = VIEWS.find(([view]) => view === name) ?? VIEWS[0];
  const reads = name === "jobs" && rest[0];
  mark(found[0]);
  try {
    const view = await (reads ? READ() : found[2]());
    if (mine !== turn) return;
    leave();
    leave = () => {};
    fill(root);
    document.title = `${reads ? "Transcript" : found[1]} · Tympan`;
    leave = view.show(root, { rest, query: new URLSearchParams(query) }) ?? (() => {});
    root.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  } catch (error) {
    fill(root, el("p", { class: "note bad", text: `This page could not be shown: ${error.message} Load it again.` }));
    throw error;
  }
}

function mark(current) {
  fill(document.getElementById("nav"), VIEWS.map(([name, title]) =>
    el("a", { href: `#/${name}`, "aria-current": name === current ? "page" : null, text: title })));
}

/** Asks for a key. Resolves once the dialog is closed. */
function askKey(why = "") {
  if (document.querySelector("dialog.key")) return;
  const text = el("input", { type: "password", autocomplete: "off", spellcheck: "false", placeholder: "tym_…", value: key.get() });
  const remember = el("input", { type: "checkbox" });
  const save = (event) => {
    event.preventDefault();
    key.set(text.value.trim(), { remember: remember.checked });
    box.close();
    route();
    watchHealth();
  };
  const box = dialog("Your API key",
    why && el("p", { class: "note warn", text: why }),
    el("form", { class: "stack", on: { submit: save } },
      field("Key", text, "The operator makes one with: tympan keys create"),
      el("label", { class: "check" }, remember, "Keep it in this browser"),
      el("div", { class: "row wrap" },
        el("button", { class: "button main", text: "Use this key" }),
        el("button", { class: "button", type: "button", text: "Forget it", on: { click: () => { text.value = ""; box.querySelector("form").requestSubmit(); } } }))));
  box.classList.add("key");
  text.focus();
}

const THEME = "tympan.theme";

function theme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return localStorage.getItem(THEME) ?? (dark ? "dark" : "light");
}

function showTheme() {
  document.documentElement.dataset.theme = theme();
  document.getElementById("theme").textContent = theme() === "dark" ? "☀" : "☾";
}

let watching = new AbortController();

/** Shows how the server is, every few seconds while the page is seen; nothing where a proxy keeps that to itself. */
async function watchHealth() {
  watching.abort();
  watching = new AbortController();
  const { signal } = watching;
  const place = document.getElementById("health");
  while (!signal.aborted) {
    if (!document.hidden) {
      const status = await healthNow();
      if (signal.aborted) return;
      place.dataset.status = status.status;
      place.textContent = status.text;
      place.hidden = !status.status;
    }
    await pause(HEALTH_MS, signal).catch(() => {});
  }
}

async function healthNow() {
  try {
    const answer = await fetch("/health", { cache: "no-store" });
    const { status = "", queued_requests: queued } = await answer.json();
    return { status, text: queued ? `${status}, ${queued} waiting` : status };
  } catch {
    return { status: "unreachable", text: "unreachable" };
  }
}

window.addEventListener("hashchange", route);
window.addEventListener("tympan:key-wanted", ({ detail }) => askKey(key.get() ? detail : "This server asks for a key."));
window.addEventListener("unhandledrejection", ({ reason }) => {
  if (reason instanceof ApiError && reason.status !== 401) notice(reason.message, "bad");
});
document.getElementById("key").addEventListener("click", () => askKey());
document.getElementById("theme").addEventListener("click", () => {
  localStorage.setItem(THEME, theme() === "dark" ? "light" : "dark");
  showTheme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
// Whether a key is wanted is known once something was asked; without one on this machine the button is in the way.
request("GET", "/v1/models").then(() => { document.getElementById("key").hidden = !key.get(); }, () => {});
showTheme();
route();
watchHealth();
