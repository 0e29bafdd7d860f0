// Admin, keys: make, list, rotate and revoke. A secret is shown once and kept nowhere.

import { key as own, request } from "../api.js";
import { ask, dialog, el, field, fill, notice, select } from "../dom.js";
import { busily, card, nothing, table, tag, told, trouble } from "../operate/parts.js";
import { ago, moment } from "../text.js";
import { keyForm } from "./key_form.js";
import { showSecret } from "./secret.js";

const PAGE = 50;
const STATES = { active: "good", expired: "", revoked: "" };
const SHOWN = [["active", "active keys"], ["", "all keys"], ["expired", "expired keys"], ["revoked", "revoked keys"]];
const OVERLAPS = [["24", "for another day"], ["168", "for another week"], ["1", "for another hour"], ["0", "not at all: it ends now"]];

/** Shows it in `root` until `signal` says that the view is left. */
export function show(root, signal) {
  const place = { state: "active", tenant: "", keys: [], signal, list: el("div", {}, el("p", { class: "soft", text: "Loading…" })), note: el("div", { class: "stack" }) };
  const state = select(SHOWN, place.state, { "aria-label": "Which keys", class: "narrow", on: { change: () => { place.state = state.value; load(place); } } });
  const tenant = el("input", { type: "search", class: "narrow", placeholder: "any tenant", "aria-label": "Tenant", maxlength: "64", on: { change: () => { place.tenant = tenant.value.trim(); load(place); } } });
  const make = el("button", { class: "button main", type: "button", text: "New key", on: { click: () => keyForm(place.tenant, place.isOpen, (made) => made && done(place, made)) } });
  fill(root, place.note, card("Keys", make, el("div", { class: "row wrap filters" }, state, tenant), place.list));
  load(place);
}

async function load(place, after = null) {
  await told(place.list, place.signal, async () => {
    const query = { limit: PAGE, after, state: place.state, tenant: place.tenant };
    const page = await request("GET", "/v1/admin/keys", { query, signal: place.signal });
    place.keys = after ? [...place.keys, ...page.data] : page.data;
    place.next = page.has_more ? page.next : null;
    if (!own.get() && !after) await door(place);
    paint(place);
  });
}

/** Without a key the door is open, or nobody looks at keys: says which way it is. */
async function door(place) {
  const any = place.keys.length || (await request("GET", "/v1/admin/keys", { query: { limit: 1 }, signal: place.signal })).data.length;
  place.isOpen = !any;
  fill(place.note, any ? el("p", { class: "note", text: "You are here without a key: the server asks for none (API_KEYS is open, or no key is valid any more)." })
    : el("div", { class: "note warn stack tight" }, el("b", { text: "No key is needed: anyone on this machine may do everything." }),
      el("p", { text: "The first key changes that within five seconds: from then on everybody needs one. Make the first one an operator's key, and keep it." })));
}

function paint(place) {
  const more = place.next && el("button", { class: "button", type: "button", text: "More", on: { click: () => load(place, place.next) } });
  const isFiltered = place.tenant || place.state;
  fill(place.list, place.keys.length ? [table("Keys", ["Name", "Tenant", "State", "May", "Made", "Last used", "Ends", ""], place.keys.map((key) => row(place, key))), more]
    : nothing(isFiltered && !place.isOpen ? "No key matches." : "There are no keys yet. A key says who may use the server, for what, and whose jobs they see."));
}

function row(place, key) {
  const isMine = own.get().startsWith(`tym_${key.id}_`);
  const when = (time, otherwise) => (time ? el("span", { title: moment(time), text: ago(time) }) : el("span", { class: "soft", text: otherwise }));
  return [
    el("div", { class: "stack tight" }, el("b", { class: "wrap-anywhere", text: key.name || "without a name" }), el("span", { class: "soft small mono", text: `tym_${key.id}_…` })),
    el("span", { class: "wrap-anywhere", text: key.tenant }), el("div", { class: "row wrap tight" }, tag(key.state, STATES[key.state]), isMine && tag("yours", "busy")),
    el("span", { class: "small scopes", text: key.scopes.join(", ") }), when(key.created_at, ""), when(key.last_used_at, "never"),
    el("span", { class: key.expires_at ? "" : "soft", text: key.expires_at ? moment(key.expires_at) : "never" }), key.state === "active" ? actions(place, key, isMine) : "",
  ];
}

function actions(place, key, isMine) {
  const name = key.name || key.id;
  return el("div", { class: "row wrap tight" },
    el("button", { class: "button small", type: "button", "aria-label": `Rotate ${name}`, text: "Rotate", on: { click: () => rotate(place, key) } }),
    el("button", { class: "button small danger", type: "button", "aria-label": `Revoke ${name}`, text: "Revoke", on: { click: (event) => revoke(place, key, isMine, event.currentTarget) } }));
}

function rotate(place, key) {
  const overlap = select(OVERLAPS, "24");
  const wrong = el("div");
  const send = el("button", { class: "button main", text: "Rotate" });
  const box = dialog(`Rotate ${key.name || key.id}`, el("p", { text: "A new key takes its place, with the same tenant, scopes and lifetime. It is shown once." }),
    el("form", { class: "stack", on: { submit: (event) => { event.preventDefault(); go(); } } },
      field("The old key goes on working", overlap), wrong,
      el("div", { class: "row wrap" }, send, el("button", { class: "button", type: "button", text: "Cancel", on: { click: () => box.close() } }))));
  const go = () => busily(send, async () => {
    const made = await request("POST", `/v1/admin/keys/${encodeURIComponent(key.id)}/rotate`, { json: { overlap_hours: Number(overlap.value) } });
    box.close();
    done(place, made);
  }, (error) => fill(wrong, trouble(error)));
}

async function revoke(place, key, isMine, button) {
  const mine = isMine ? " It is the key you are using here." : "";
  if (!await ask(`Revoke ${key.name || key.id}?`, `Programs that use it are refused within five seconds, for good. It belongs to ${key.tenant}.${mine}`, "Revoke")) return;
  const isDone = await busily(button, () => request("DELETE", `/v1/admin/keys/${encodeURIComponent(key.id)}`), (error) => notice(error.message, "bad"));
  if (!isDone) return;
  notice("The key is revoked.", "good");
  load(place);
}

/** Shows the secret of a new key, and the list with it. */
function done(place, made) {
  showSecret(made, !own.get(), () => {
    fill(place.note);
    load(place);
  });
}
