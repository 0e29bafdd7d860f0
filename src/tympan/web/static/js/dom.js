// Elements made by hand: text is text and never becomes markup, whatever is in it.

const asProperty = new Set(["value", "checked", "disabled", "hidden", "selected", "open", "currentTime", "indeterminate"]);

/** Returns a new element. `props`: `class`, `text`, `on: {event: handler}`, `style: {name: value}`, `data: {name: value}`;
 *  everything else is an attribute (`true` without a value; `false`, `null` and `undefined` leave it out). Children may be
 *  nodes, strings, numbers or lists of those; empty ones are left out. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) set(node, name, value);
  node.append(...flat(children));
  return node;
}

/** Returns a new SVG element; attributes and children as for `el`. */
export function svg(tag, props = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) set(node, name, value);
  node.append(...flat(children));
  return node;
}

/** Puts `children` in place of all that is in `node`. */
export function fill(node, ...children) {
  node.replaceChildren(...flat(children));
  return node;
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== "");
}

function set(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (asProperty.has(name) && value === false) node[name] = false;
    return;
  }
  if (name === "class") node.setAttribute("class", value);
  else if (name === "text") node.textContent = value;
  else if (name === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
  else if (name === "style") for (const [key, it] of Object.entries(value)) node.style.setProperty(key, it);
  else if (name === "data") for (const [key, it] of Object.entries(value)) node.dataset[key] = it;
  else if (asProperty.has(name)) node[name] = value;
  else node.setAttribute(name, value === true ? "" : String(value));
}

/** Returns a labelled field around `control`, with a `hint` below it if there is one. */
export function field(label, control, hint = "") {
  return el("label", { class: "field" }, el("span", { text: label }), control, hint && el("small", { text: hint }));
}

/** Returns a select box. `choices` are `[value, title]`. */
export function select(choices, value, props = {}) {
  return el("select", props, choices.map(([key, title]) => el("option", { value: key, selected: key === value, text: title })));
}

/** Opens a dialog and returns its element; it goes away when it is closed. `title` is its heading. */
export function dialog(title, ...children) {
  const box = el("dialog", { "aria-label": title, on: { close: () => box.remove() } },
    el("div", { class: "stack" }, el("h2", { text: title }), children));
  document.body.append(box);
  box.showModal();
  return box;
}

/** Asks a question that is answered with yes or no; resolves to a boolean. `yes` is what the button says. */
export function ask(title, text, yes) {
  return new Promise((resolve) => {
    let answer = false;
    const decide = () => { answer = true; box.close(); };
    const box = dialog(title, el("p", { text }),
      el("div", { class: "row wrap" },
        el("button", { class: "button main", type: "button", text: yes, on: { click: decide } }),
        el("button", { class: "button", type: "button", text: "Cancel", on: { click: () => box.close() } })));
    box.addEventListener("close", () => resolve(answer));
  });
}

/** Says something at the edge of the screen. `kind`: `good`, `warn`, `bad` or nothing; bad ones stay until they are closed. */
export function notice(text, kind = "") {
  const place = document.getElementById("notices");
  const close = () => box.remove();
  const box = el("div", { class: `note ${kind}` }, el("span", { text }),
    el("button", { class: "button quiet small icon", type: "button", "aria-label": "Close", text: "×", on: { click: close } }));
  while (place.childElementCount > 3) place.firstElementChild.remove();
  place.append(box);
  if (kind !== "bad") setTimeout(close, 6000);
}
