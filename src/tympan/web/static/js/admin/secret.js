// The one time that a key is shown.

import { key as own } from "../api.js";
import { dialog, el } from "../dom.js";

/** Shows the key in `made` once. `isOpen`: nobody has needed a key here so far, so it is offered to be used at once.
 *  `onClose` is called when the dialog is closed. */
export function showSecret(made, isOpen, onClose) {
  const text = el("input", { value: made.key, readonly: true, class: "mono", "aria-label": "The key", on: { focus: () => text.select() } });
  const said = el("span", { class: "soft small", role: "status" });
  const copy = el("button", { class: "button", type: "button", text: "Copy", on: { click: () => copied(text, said) } });
  const close = el("button", { class: isOpen ? "button" : "button main", type: "button", text: "I have saved it", on: { click: () => box.close() } });
  const use = el("button", { class: "button main", type: "button", text: "Use it in this browser", on: { click: () => { take(made.key); box.close(); } } });
  const box = dialog("The new key", el("p", { class: "note warn", text: "It is shown only now. The server keeps just a digest and cannot show it again." }),
    el("div", { class: "row wrap" }, el("div", { class: "grow" }, text), copy), said,
    el("p", { class: "soft small wrap-anywhere", text: `Tenant ${made.tenant}. Programs send it as: Authorization: Bearer tym_…` }),
    isOpen && el("p", { text: "From now on this page needs a key as well." }),
    el("div", { class: "row wrap" }, isOpen && use, close));
  box.addEventListener("close", onClose);
  text.focus();
}

function take(value) {
  own.set(value);
  // The frame hides its button where no key is needed.
  document.getElementById("key").hidden = false;
}

/** Copies where the browser lets a page do so: on https and on the machine itself. Elsewhere the text is marked. */
async function copied(text, said) {
  text.select();
  try {
    await navigator.clipboard.writeText(text.value);
    said.textContent = "Copied.";
  } catch {
    said.textContent = "It is selected: copy it with Ctrl+C or ⌘C.";
  }
}
