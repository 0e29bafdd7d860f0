// The form that makes a tenant or changes one: limits with their units, weight, days.

import { request } from "../api.js";
import { dialog, el, field, fill } from "../dom.js";
import { busily, trouble } from "../operate/parts.js";
import { number, span } from "../text.js";
import { LIMITS, read, written } from "./limits.js";

const WEIGHT = { least: 0.01, most: 100 };
const DAYS = { most: 36500 };

/** Opens the form for `tenant`, or for a new one when it is `null`; `onSaved` gets the tenant as it is then. */
export function tenantForm(tenant, onSaved) {
  const form = { tenant, wrong: el("div", { role: "alert" }), fields: new Map() };
  const name = tenant ? null : el("input", { required: true, maxlength: "64", pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,63}", title: "Letters, digits, '.', '_' and '-', 64 at most", autocomplete: "off" });
  const send = el("button", { class: "button main", text: tenant ? "Save" : "Make the tenant" });
  const box = dialog(tenant ? `Tenant ${tenant.id}` : "New tenant",
    tenant && today(tenant),
    el("form", { class: "stack", novalidate: Boolean(tenant), on: { submit: (event) => { event.preventDefault(); save(); } } },
      name && field("Name", name, "Letters, digits, '.', '_' and '-'; it cannot be changed."),
      el("p", { class: "soft small", text: "Empty: the server's setting. 0: no limit." }),
      el("div", { class: "fields" }, LIMITS.map((limit) => limitField(form, limit))),
      el("div", { class: "fields" }, weightField(form), daysField(form, "audio_days", "Days to keep audio"), daysField(form, "text_days", "Days to keep text")),
      form.wrong,
      el("div", { class: "row wrap" }, send, el("button", { class: "button", type: "button", text: "Cancel", on: { click: () => box.close() } }))));
  box.classList.add("wide");
  const save = () => busily(send, async () => {
    fill(form.wrong);
    const body = wish(form);
    if (!body) return;
    const saved = tenant ? await request("PATCH", `/v1/admin/tenants/${encodeURIComponent(tenant.id)}`, { json: body })
      : await request("POST", "/v1/admin/tenants", { json: { ...body, id: name.value.trim() } });
    box.close();
    onSaved(saved);
  }, (error) => refused(form, error));
  (name ?? form.fields.get("requests_per_min").input).focus();
}

function limitField(form, [name, title, unit, whole]) {
  const { tenant } = form;
  const inherits = tenant && tenant.limits[name] === null;
  return numberField(form, `limits.${name}`, { title: unit ? `${title}, ${unit}` : title, value: tenant?.limits[name] ?? null, rules: { whole }, alias: name,
    placeholder: inherits ? `settings: ${written(tenant.effective.limits[name], unit)}` : "server's setting" });
}

function weightField(form) {
  return numberField(form, "weight", { title: "Weight beside others", value: form.tenant?.weight ?? 1, rules: WEIGHT, placeholder: "1" });
}

function daysField(form, name, title) {
  const usual = form.tenant ? `settings: ${form.tenant.effective[name].toLocaleString("en")}` : "server's setting";
  return numberField(form, name, { title, value: form.tenant?.[name] ?? null, rules: DAYS, placeholder: usual });
}

function numberField(form, name, { title, value, rules, placeholder, alias = name }) {
  const input = el("input", { inputmode: "decimal", autocomplete: "off", placeholder, value: value === null ? "" : String(value) });
  const wrong = el("small", { class: "bad-text", role: "alert" });
  form.fields.set(alias, { name, input, wrong, rules, before: value });
  return el("label", { class: "field" }, el("span", { text: title }), input, wrong);
}

/** Returns what was changed, as the API takes it; nothing when a field is wrong, which is told beside it. */
function wish(form) {
  const body = { limits: {} };
  let isFine = true;
  for (const [alias, { name, input, wrong, rules, before }] of form.fields) {
    const found = read(input.value, rules);
    tell(input, wrong, found.wrong ?? "");
    if (found.wrong) isFine = false;
    else if (found.value !== before || !form.tenant) {
      if (name.startsWith("limits.")) body.limits[alias] = found.value;
      else if (name !== "weight") body[name] = found.value;
      else body.weight = found.value ?? 1;
    }
  }
  if (!isFine) form.wrong.closest("form").querySelector("[aria-invalid]")?.focus();
  return isFine ? body : null;
}

function tell(input, wrong, text) {
  wrong.textContent = text;
  if (text) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
}

/** Shows what the server says beside the field that it names. */
function refused(form, error) {
  const found = [...form.fields.values()].find(({ name }) => name === error.param);
  if (found) tell(found.input, found.wrong, error.message);
  else fill(form.wrong, trouble(error));
}

/** What the tenant has used today, where this key may see it. */
function today(tenant) {
  const place = el("p", { class: "soft small", text: "Used today: loading…" });
  const day = new Date().toISOString().slice(0, 10);
  request("GET", "/v1/usage", { query: { tenant: tenant.id, from: day, to: day } }).then(({ data }) => {
    const sum = (name) => data.reduce((all, row) => all + row[name], 0);
    place.textContent = data.length ? `Used today (UTC): ${number(sum("requests"))} requests, ${number(sum("failures"))} of them failed, ${span(sum("audio_s"))} of audio.` : "Used today (UTC): nothing.";
  }, (error) => { place.textContent = `Today's usage cannot be shown: ${error.message}`; });
  return place;
}
