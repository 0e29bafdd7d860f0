// Admin, tenants: who there is, what each may do, how long what is theirs is kept.

import { request } from "../api.js";
import { el, fill, notice } from "../dom.js";
import { card, nothing, table, tag, told } from "../operate/parts.js";
import { number } from "../text.js";
import { own } from "./limits.js";
import { tenantForm } from "./tenant_form.js";

const PAGE = 50;

/** Shows it in `root` until `signal` says that the view is left. */
export function show(root, signal) {
  const place = { signal, tenants: [], list: el("div", {}, el("p", { class: "soft", text: "Loading…" })) };
  const make = el("button", { class: "button main", type: "button", text: "New tenant", on: { click: () => tenantForm(null, (made) => changed(place, made)) } });
  fill(root, card("Tenants", make,
    el("p", { class: "soft", text: "A tenant is a name that keys share. It sees only its own jobs. It is listed once it has a key, a job or a limit." }), place.list));
  load(place);
}

async function load(place, after = null) {
  await told(place.list, place.signal, async () => {
    const page = await request("GET", "/v1/admin/tenants", { query: { limit: PAGE, after }, signal: place.signal });
    place.tenants = after ? [...place.tenants, ...page.data] : page.data;
    place.next = page.has_more ? page.next : null;
    paint(place);
  });
}

function paint(place) {
  const more = place.next && el("button", { class: "button", type: "button", text: "More", on: { click: () => load(place, place.next) } });
  fill(place.list, place.tenants.length ? [table("Tenants", ["Tenant", ["Jobs kept", "number"], ["Weight", "number"], "Limits of its own", "Audio and text kept", ""], place.tenants.map((each) => row(place, each))), more]
    : nothing("There are no tenants yet. Make one to give it limits, or make a key, which makes its tenant."));
}

function row(place, tenant) {
  const limits = own(tenant.limits);
  return [
    el("b", { class: "wrap-anywhere", text: tenant.id }), number(tenant.jobs), number(tenant.weight, Number.isInteger(tenant.weight) ? 0 : 2),
    limits.length ? el("div", { class: "row wrap tight" }, limits.map((text) => tag(text))) : el("span", { class: "soft", text: "server's setting" }),
    el("span", { class: "small", text: kept(tenant) }),
    el("button", { class: "button small", type: "button", "aria-label": `Change ${tenant.id}`, text: "Change", on: { click: () => tenantForm(tenant, (made) => changed(place, made)) } }),
  ];
}

function kept({ effective, audio_days: audio, text_days: text }) {
  const days = (value, isOwn) => `${number(value, Number.isInteger(value) ? 0 : 2)} ${value === 1 ? "day" : "days"}${isOwn ? "" : " (settings)"}`;
  return `${days(effective.audio_days, audio !== null)} · ${days(effective.text_days, text !== null)}`;
}

function changed(place, made) {
  notice(`${made.id} is saved. Servers follow within five seconds.`, "good");
  load(place);
}
