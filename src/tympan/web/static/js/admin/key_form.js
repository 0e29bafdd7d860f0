// The form that makes a key.

import { request } from "../api.js";
import { dialog, el, field, fill } from "../dom.js";
import { busily, trouble } from "../operate/parts.js";
import { SCOPES, SETS } from "./scopes.js";

/** Opens the form. `isFirst` says that no key exists yet; `onMade` gets the answer, which has the secret. */
export function keyForm(tenant, isFirst, onMade) {
  const parts = {
    tenant: el("input", { value: tenant || "default", required: true, maxlength: "64", pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,63}", title: "Letters, digits, '.', '_' and '-', 64 at most", autocomplete: "off" }),
    name: el("input", { maxlength: "100", placeholder: "what it is for", autocomplete: "off" }),
    days: el("input", { type: "number", min: "0.01", max: "36500", step: "any", placeholder: "never" }),
    boxes: SCOPES.map(([name]) => el("input", { type: "checkbox", value: name })),
    wrong: el("div", { role: "alert" }),
  };
  const choose = (names) => parts.boxes.forEach((box) => { box.checked = names.includes(box.value); });
  choose(SETS[isFirst ? 2 : 0][1]);
  const send = el("button", { class: "button main", text: "Make the key" });
  const box = dialog("New key", isFirst && el("p", { class: "note warn", text: "This is the first key. After it everybody needs one, so make it an operator's key." }),
    el("form", { class: "stack", on: { submit: (event) => { event.preventDefault(); make(); } } },
      field("Tenant", parts.tenant, "Whose jobs, uploads and webhooks it opens; keys of one tenant share them."),
      field("Name", parts.name), field("Days until it expires", parts.days, "Empty: it lasts until it is revoked."),
      scopes(parts, choose), parts.wrong,
      el("div", { class: "row wrap" }, send, el("button", { class: "button", type: "button", text: "Cancel", on: { click: () => box.close() } }))));
  const make = () => busily(send, async () => {
    const made = await request("POST", "/v1/admin/keys", { json: wish(parts) });
    box.close();
    onMade(made);
  }, (error) => fill(parts.wrong, trouble(error)));
  parts.name.focus();
}

function wish({ tenant, name, days, boxes }) {
  const scopes = boxes.filter((box) => box.checked).map((box) => box.value);
  return { tenant: tenant.value.trim(), name: name.value.trim(), scopes, ...(days.value ? { expires_in_days: Number(days.value) } : {}) };
}

function scopes({ boxes }, choose) {
  return el("fieldset", { class: "stack tight" }, el("legend", { text: "What it allows" }),
    el("div", { class: "row wrap tight" }, SETS.map(([title, names]) => el("button", { class: "button small", type: "button", text: title, on: { click: () => choose(names) } }))),
    el("div", { class: "checks" }, SCOPES.map(([name, title, meaning], i) => el("label", { class: "check" }, boxes[i],
      el("span", {}, el("b", { text: title }), " ", el("code", { class: "soft", text: name }), el("span", { class: "small soft block", text: meaning }))))));
}
