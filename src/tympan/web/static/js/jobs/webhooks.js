// Webhook endpoints: where the server tells of jobs that have ended, with which secret, and what came of it.

import { request } from "../api.js";
import { ask, dialog, el, field, fill, notice } from "../dom.js";
import { ago, moment } from "../text.js";
import { deliveries } from "./deliveries.js";
import { poll } from "./poll.js";

const ROOT = "/v1/webhook-endpoints";

/** Returns `{node, stop()}`. */
export function webhooks() {
  const entries = new Map();
  const parts = {
    list: el("ul", { class: "endpoints plain", "aria-label": "Webhook endpoints" }),
    note: el("p", { class: "note bad", hidden: true }),
    empty: el("p", { class: "empty", text: "Loading…" }),
    more: el("button", { class: "button", type: "button", text: "Older ones", hidden: true }),
  };
  const state = { endpoints: [], more: null };
  const watch = poll(async (signal) => {
    await look(state, signal);
    draw(state, parts, entries, acts);
    return false;
  }, (error) => {
    parts.note.hidden = !error;
    parts.note.textContent = error?.message ?? "";
  });
  const acts = { refresh: watch.now };
  parts.more.addEventListener("click", async () => {
    const page = await request("GET", ROOT, { query: { limit: 50, after: state.more } });
    state.endpoints.push(...page.data);
    state.more = page.has_more ? page.next : null;
    draw(state, parts, entries, acts);
  });
  const node = el("div", { class: "stack" },
    el("div", { class: "row apart wrap" },
      el("p", { class: "soft", text: "Have the server tell your own programs when a job has finished. Messages are signed." }),
      el("button", { class: "button main", type: "button", text: "New endpoint", on: { click: () => create(acts) } })),
    parts.note, parts.list, parts.empty, el("div", {}, parts.more));
  const stop = () => {
    watch.stop();
    for (const entry of entries.values()) entry.deliveries.stop();
  };
  return { node, stop };
}

async function look(state, signal) {
  const page = await request("GET", ROOT, { query: { limit: 50 }, signal });
  const last = page.data.at(-1)?.id ?? "";
  const behind = page.has_more ? state.endpoints.filter((each) => each.id < last) : [];
  if (!behind.length) state.more = page.has_more ? page.next : null;
  state.endpoints = [...page.data, ...behind];
}

function draw(state, parts, entries, acts) {
  const ids = new Set(state.endpoints.map((each) => each.id));
  for (const [id, entry] of entries) {
    if (ids.has(id)) continue;
    entry.deliveries.stop();
    entry.node.remove();
    entries.delete(id);
  }
  state.endpoints.forEach((endpoint, at) => {
    if (!entries.has(endpoint.id)) entries.set(endpoint.id, entryOf(endpoint));
    const entry = entries.get(endpoint.id);
    const said = JSON.stringify(endpoint);
    if (entry.said !== said) fill(entry.head, heading(endpoint, entry, acts));
    entry.said = said;
    if (parts.list.children[at] !== entry.node) parts.list.insertBefore(entry.node, parts.list.children[at] ?? null);
  });
  parts.empty.hidden = state.endpoints.length > 0;
  parts.empty.textContent = "No endpoints yet. Make one and the server calls your program when a job has finished.";
  parts.more.hidden = !state.more;
}

function entryOf(endpoint) {
  const list = deliveries(`${ROOT}/${endpoint.id}`);
  const fold = el("details", { on: { toggle: () => (fold.open ? list.start() : list.stop()) } }, el("summary", { text: "Deliveries" }), list.node);
  const head = el("div", { class: "stack tight" });
  return { said: "", head, deliveries: list, fold, node: el("li", { class: "card stack tight" }, head, fold) };
}

function heading(endpoint, entry, acts) {
  const { url, enabled, failing_since: failing } = endpoint;
  const act = (work) => async () => {
    try {
      if ((await work()) !== false) acts.refresh();
    } catch (error) {
      notice(error.message, "bad");
    }
  };
  const path = `${ROOT}/${endpoint.id}`;
  const button = (text, work, kind = "") =>
    el("button", { class: `button small ${kind}`, type: "button", "aria-label": `${text}: ${url}`, text, on: { click: act(work) } });
  return [
    el("div", { class: "row apart wrap" },
      el("div", { class: "row grow" }, el("code", { class: "clip", text: url, title: url }), tag(endpoint)),
      el("div", { class: "row wrap" },
        button("Test", () => test(path, entry)),
        button(enabled ? "Disable" : "Enable", () => request("PATCH", path, { json: { enabled: !enabled } })),
        button("Change secret", () => rotate(path, url)),
        button("Delete", () => remove(path, url), "quiet"))),
    el("p", { class: "soft small" }, [endpoint.description, endpoint.implicit && "made for a job's webhook_url", `made ${ago(endpoint.created_at)}`].filter(Boolean).join(" · ")),
    failing && el("p", { class: "note warn small", text: `Nothing has arrived there since ${moment(failing)}. See Deliveries for the reason.` }),
    endpoint.disabled_reason && el("p", { class: "note bad small", text: `Disabled: ${endpoint.disabled_reason}` }),
  ];
}

function tag({ enabled, failing_since: failing }) {
  const [word, kind] = !enabled ? ["disabled", "warn"] : failing ? ["failing", "bad"] : ["enabled", "good"];
  return el("span", { class: `tag ${kind}`, text: word });
}

async function test(path, entry) {
  await request("POST", `${path}/test`);
  notice("A test event was sent; see Deliveries for the result.", "good");
  entry.fold.open = true;
  entry.deliveries.start();
}

async function rotate(path, url) {
  const sure = await ask("Change the secret?", `Messages to ${url} are signed with the old secret as well for a day.`, "Change it");
  if (sure) showSecret(await request("POST", `${path}/secret/rotate`));
}

async function remove(path, url) {
  const sure = await ask("Delete the endpoint?", `Nothing more is sent to ${url}, and waiting messages are dropped.`, "Delete it");
  if (!sure) return false;
  return request("DELETE", path);
}

function create(acts) {
  const url = el("input", { type: "url", required: true, placeholder: "https://hooks.example/tympan", autocomplete: "off" });
  const description = el("input", { type: "text", maxlength: 1000 });
  const wrong = el("p", { class: "note bad", hidden: true });
  const send = async (event) => {
    event.preventDefault();
    try {
      const made = await request("POST", ROOT, { json: { url: url.value.trim(), description: description.value } });
      box.close();
      acts.refresh();
      showSecret(made);
    } catch (error) {
      wrong.hidden = false;
      wrong.textContent = error.message;
    }
  };
  const box = dialog("New endpoint", el("form", { class: "stack", novalidate: true, on: { submit: send } },
    field("Address", url, "An https address on the public internet; the operator can allow others."),
    field("Description", description), wrong,
    el("div", { class: "row wrap" },
      el("button", { class: "button main", text: "Create" }),
      el("button", { class: "button", type: "button", text: "Cancel", on: { click: () => box.close() } }))));
}

/** Shows a secret, which the page forgets with the dialog. */
function showSecret({ secret, previous_secret_until: until }) {
  const copy = async () => {
    await navigator.clipboard.writeText(secret);
    notice("Copied.", "good");
  };
  const box = dialog("The endpoint's secret",
    el("p", { text: "Your program checks the signature of each message with it. Keep it like a password." }),
    el("code", { class: "secret", text: secret, tabindex: 0 }),
    until && el("p", { class: "soft", text: `The previous one works until ${moment(until)}.` }),
    el("div", { class: "row wrap" },
      navigator.clipboard && el("button", { class: "button main", type: "button", text: "Copy", on: { click: copy } }),
      el("button", { class: "button", type: "button", text: "Close", on: { click: () => box.close() } })));
}
