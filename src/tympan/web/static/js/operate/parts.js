// Small parts that Operate and Admin share: notes about what went wrong, tags, tabs, tables.

import { el, fill } from "../dom.js";

const REMEDIES = { metrics: "Load, latency and queues are not shown without it." };

/** Returns a note about an `ApiError`, in the server's words; where a key is what is missing, with a button for that. */
export function trouble(error, what = "") {
  const isKey = error.status === 401 || error.status === 403;
  const ask = () => window.dispatchEvent(new CustomEvent("tympan:key-wanted", { detail: error.message }));
  return el("div", { class: `note ${isKey ? "warn" : "bad"} stack tight` },
    what && el("b", { text: what }), el("p", { text: error.message }),
    isKey && el("p", { class: "small", text: REMEDIES[what] ?? "A key with that scope is made on the server's machine: tympan keys create --scopes …" }),
    isKey && el("div", {}, el("button", { class: "button small", type: "button", text: "Use another key", on: { click: ask } })));
}

/** Returns a tag; `kind` is `good`, `warn`, `bad`, `busy` or nothing. */
export const tag = (text, kind = "") => el("span", { class: `tag ${kind}`, text });

/** Returns the links between the parts of a view. `tabs` are `[name, title]`; the first has no name in the address. */
export function tabs(view, entries, current, label) {
  return el("nav", { class: "tabs", "aria-label": label }, entries.map(([name, title], i) =>
    el("a", { href: i ? `#/${view}/${name}` : `#/${view}`, "aria-current": name === current ? "page" : null, text: title })));
}

/** Returns a table; on a phone each row becomes a card. `head` are titles, `[title, class]` where a column has a class;
 *  cells are texts, nodes or lists of nodes. `caption` is for those who do not see it. A table of few short columns is `small` enough to stay one. */
export function table(caption, head, rows, { small = false } = {}) {
  const columns = head.map((each) => (Array.isArray(each) ? each : [each, ""]));
  return el("div", { class: "table-wrap", tabindex: "0", role: "region", "aria-label": caption },
    el("table", { class: small ? null : "stacks" }, el("caption", { class: "unseen", text: caption }),
      el("thead", {}, el("tr", {}, columns.map(([title, kind]) => el("th", { scope: "col", class: kind || null }, title || el("span", { class: "unseen", text: "Actions" }))))),
      el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, i) => cellOf(cell, columns[i])))))));
}

const cellOf = (cell, [title, kind]) => el("td", { class: `${kind}${cell === "" ? " bare" : ""}` || null, data: { label: title } }, el("div", {}, cell));

/** Returns a card with a heading. `more` stands at the end of the heading's line. */
export function card(title, more, ...children) {
  return el("section", { class: "card stack", "aria-label": title },
    el("div", { class: "row wrap apart" }, el("h2", { text: title }), more), children);
}

/** Returns what stands where there is nothing yet: what that means, and what to do next. */
export function nothing(text, ...children) {
  return el("div", { class: "nothing stack tight" }, el("p", { text }), children);
}

/** Returns a line of a command to be typed, in a block of its own. */
export const commandLine = (text) => el("pre", { class: "command", tabindex: "0" }, el("code", { text }));

/** Does `work` while `button` cannot be pressed again; what fails is told by `onError`. Returns whether it went well. */
export async function busily(button, work, onError) {
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  try {
    await work();
    return true;
  } catch (error) {
    onError(error);
    return false;
  } finally {
    button.disabled = false;
    button.removeAttribute("aria-busy");
  }
}

/** Does `work`, and says in `place` why not when it fails; what fails after `signal` is of no interest any more. */
export async function told(place, signal, work) {
  try {
    await work();
  } catch (error) {
    if (!signal.aborted) fill(place, trouble(error));
  }
}
