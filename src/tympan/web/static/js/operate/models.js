// Operate, models: what is served, where it runs, what it takes; loading and unloading.
// Rate of requests: /v1/models every 5 s, every second while a model is on its way, none while the page is hidden.

import { request } from "../api.js";
import { ask, el, fill, notice } from "../dom.js";
import { bytes } from "../text.js";
import { busily, card, commandLine, nothing, table, tag, trouble } from "./parts.js";
import { poll } from "./poll.js";
import { counted } from "./units.js";

const EVERY_MS = 5_000;
const SOON_MS = 1_000;
const MOVING = new Set(["loading", "unloading"]);
const STATES = { loaded: "good", loading: "busy", unloading: "busy", unloaded: "", failed: "bad" };

/** Shows it in `root` and returns what ends it. */
export function show(root) {
  const place = { list: el("div", {}, el("p", { class: "soft", text: "Loading…" })), end: () => {} };
  fill(root, card("Models", null,
    el("p", { class: "soft", text: "Each loaded model is a process of its own. One that is not loaded is loaded when a request names it, if there is room." }),
    place.list));
  watch(place, EVERY_MS);
  return () => place.end();
}

function watch(place, everyMs) {
  place.end();
  place.end = poll(everyMs, async (signal) => {
    const { data } = await request("GET", "/v1/models", { signal });
    const models = data.filter(({ id, served_as: served }) => id === served);
    paint(place, models);
    const wanted = models.some(({ state }) => MOVING.has(state)) ? SOON_MS : EVERY_MS;
    if (wanted !== everyMs) setTimeout(() => !signal.aborted && watch(place, wanted), wanted);
  }, (error) => fill(place.list, trouble(error)));
}

function paint(place, models) {
  const told = JSON.stringify(models);
  // A table that is the same stays as it is: whoever is about to press a button in it does not lose it.
  if (told === place.told) return;
  place.told = told;
  const focused = document.activeElement?.dataset.model;
  fill(place.list, models.length ? table("Models", ["Model", "State", "Runs on", ["Memory", "number"], ["In use", "number"], ""], models.map((model) => row(place, model)))
    : nothing("The server is starting; its models appear in a moment."), models.length === 1 && more());
  if (focused) [...place.list.querySelectorAll("button")].find((button) => button.dataset.model === focused)?.focus();
}

function row(place, model) {
  const device = [model.engine, model.device, model.compute_type].filter(Boolean).join(" · ");
  return [
    el("div", { class: "stack tight" }, el("b", { class: "wrap-anywhere", text: model.id }),
      el("span", { class: "soft small wrap-anywhere", text: (model.aliases ?? []).join(", ") }), model.error && el("span", { class: "small wrap-anywhere bad-text", text: model.error })),
    el("div", { class: "row wrap tight" }, tag(model.state, STATES[model.state]), model.default && tag("default", "busy"), model.pinned && tag("pinned")),
    device || "–", model.memory_mb ? bytes(model.memory_mb * 1e6) : "–", String(model.in_use ?? 0), buttons(place, model),
  ];
}

function buttons(place, model) {
  const isOut = model.state === "unloaded" || model.state === "failed";
  if (MOVING.has(model.state)) return el("span", { class: "soft small", text: model.state === "loading" ? "loading" : "ending" });
  const act = isOut ? load : unload;
  const button = el("button", { class: `button small${isOut ? "" : " danger"}`, type: "button", data: { model: model.id }, "aria-label": `${isOut ? "Load" : "Unload"} ${model.id}`, text: isOut ? "Load" : "Unload" });
  button.addEventListener("click", () => act(place, model, button));
  return button;
}

const path = (model) => `/v1/models/${model.id.split("/").map(encodeURIComponent).join("/")}`;
const wrong = (error) => notice(error.message, "bad");

async function load(place, model, button) {
  await busily(button, () => request("POST", path(model)), wrong);
  watch(place, SOON_MS);
}

async function unload(place, model, button) {
  const uses = model.in_use ? ` It is in use by ${counted(model.in_use, "request")} now, so the server may refuse.` : "";
  const rest = model.default ? " It is the default: requests that name no model wait until it is loaded again." : " Requests that name it wait until it is loaded again.";
  if (!await ask(`Unload ${model.id}?`, `Its process ends and gives its memory back.${rest}${uses}`, "Unload")) return;
  const isDone = await busily(button, () => request("DELETE", path(model)), wrong);
  if (isDone) notice(`${model.id} is unloaded.`, "good");
  watch(place, SOON_MS);
}

function more() {
  return nothing("This server has one model. To serve more, name them in its settings file tympan.toml and restart it:", commandLine("models = [\"small\", \"large-v3-turbo\"]"));
}
