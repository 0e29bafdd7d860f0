// Keeps what is said in view, unless somebody looks elsewhere.

import { el } from "../dom.js";

const MARGIN_PX = 48;
const LEAVING = ["PageUp", "PageDown", "Home", "End"];

/** Follows the spot of a list. `top()` is how much of the screen is covered from above, in pixels. */
export class Follow {
  #list;
  #top;
  #stop = new AbortController();
  isOn = true;

  constructor(list, top) {
    this.#list = list;
    this.#top = top;
    this.node = el("button", { class: "button main small to-now", type: "button", hidden: true, text: "Back to what is playing", on: { click: () => this.resume() } });
    const listening = { passive: true, signal: this.#stop.signal };
    for (const name of ["wheel", "touchmove"]) window.addEventListener(name, () => this.#look(), listening);
    window.addEventListener("keydown", ({ key, target }) => { if (LEAVING.includes(key) && !target.closest("[role=slider], input, textarea")) this.#look(); }, listening);
    window.addEventListener("scroll", () => this.#tell(), listening);
  }

  #look() {
    this.isOn = false;
    this.#tell();
  }

  #isSeen(node) {
    const { top, bottom } = node.getBoundingClientRect();
    return bottom > this.#top() && top < innerHeight - MARGIN_PX;
  }

  #tell() {
    const { spot } = this.#list;
    this.node.hidden = this.isOn || !spot || this.#isSeen(spot);
  }

  /** Goes back to what is said, and stays with it. */
  resume() {
    this.isOn = true;
    this.moved();
    this.node.hidden = true;
  }

  /** To be called when another word is said. */
  moved() {
    const { spot } = this.#list;
    if (this.isOn && spot && !document.querySelector(".seg textarea")) reveal(spot, this.#top());
    else this.#tell();
  }

  close() { this.#stop.abort(); }
}

/** Scrolls so far that `node` is well seen below `top` pixels of other things; not at all if it is. */
export function reveal(node, top, { always = false } = {}) {
  const box = node.getBoundingClientRect();
  const [from, to] = [top + MARGIN_PX / 2, innerHeight - MARGIN_PX * 2];
  if (!always && box.top >= from && box.bottom <= to) return;
  const by = box.top - (from + (to - from) * 0.25);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches || Math.abs(by) > innerHeight * 1.5;
  window.scrollBy({ top: by, behavior: calm ? "instant" : "smooth" });
}

/** Goes to a node that may be far away, where heights are estimates until it is seen. */
export function jump(node, top) {
  reveal(node, top, { always: true });
  let tries = 4;
  const settle = () => {
    const box = node.getBoundingClientRect();
    if (box.top < top || box.bottom > innerHeight) {
      window.scrollBy({ top: box.top - top - MARGIN_PX, behavior: "instant" });
      if (tries-- > 0) requestAnimationFrame(settle);
    }
  };
  requestAnimationFrame(() => requestAnimationFrame(settle));
}
