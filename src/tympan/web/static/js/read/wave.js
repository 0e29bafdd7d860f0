// The picture of the sound: where one is, who speaks, and what is uncertain; a slider for all who steer by keys.

import { request } from "../api.js";
import { el } from "../dom.js";

const POINTS_PER_S = 20;
const MOST_POINTS = 20_000;
const LEAST_POINTS = 200;
const MOST_ZOOM = 64;
const STEPS = { ArrowLeft: -5, ArrowDown: -5, ArrowRight: 5, ArrowUp: 5, PageDown: -30, PageUp: 30 };

/** Draws a player's audio; `node` is the element, `setBands` says what to show below the wave. */
export class Wave {
  #player;
  #peaks = [];
  #step = 1;
  #bands = { speakers: [], doubts: [] };
  #zoom = 1;
  #from = 0;
  #wants = 0;
  #shown;

  constructor(player, shown) {
    this.#player = player;
    this.#shown = shown;
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.node = el("div", { class: "wave", role: "slider", tabindex: 0, "aria-label": "Place in the audio", "aria-valuemin": 0, on: this.#listeners() }, this.canvas);
    this.#sizes = new ResizeObserver(() => this.draw());
    this.#sizes.observe(this.node);
    this.#themes = new MutationObserver(() => this.draw());
    this.#themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    for (const name of ["tick", "ready", "state"]) player.addEventListener(name, () => this.#moved());
    this.#moved();
  }

  #sizes;
  #themes;

  /** Asks for the peaks; without them the wave is a plain line that works the same. */
  async open(jobId, signal) {
    const points = Math.round(Math.min(MOST_POINTS, Math.max(LEAST_POINTS, this.#player.duration * POINTS_PER_S)));
    try {
      const found = await request("GET", `/v1/jobs/${encodeURIComponent(jobId)}/waveform`, { query: { points }, signal });
      [this.#peaks, this.#step] = [found.peaks, found.step_s];
      if (found.duration_s > 0 && !this.#player.duration) this.#player.duration = found.duration_s;
      this.node.dataset.state = "drawn";
    } catch {
      this.node.dataset.state = "plain";
    }
    this.draw();
  }

  /** `speakers` are `{start, end, colour}` (names of custom properties), `doubts` are `{start, end}`. */
  setBands(bands) {
    this.#bands = bands;
    this.draw();
  }

  zoomBy(factor) {
    const zoom = Math.min(MOST_ZOOM, Math.max(1, this.#zoom * factor));
    const kept = this.#player.time;
    this.#zoom = Math.max(1, Math.min(zoom, this.#duration / 5));
    this.#from = this.#held(kept - this.#width / 2);
    this.draw();
  }

  get zoom() { return this.#zoom; }
  get #duration() { return Math.max(this.#player.duration, 0.1); }
  get #width() { return this.#duration / this.#zoom; }
  #held(from) { return Math.min(Math.max(0, from), this.#duration - this.#width); }

  #listeners() {
    const place = (event) => {
      const box = this.node.getBoundingClientRect();
      return this.#from + Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * this.#width;
    };
    return {
      pointerdown: (event) => {
        if (event.button) return;
        this.node.setPointerCapture(event.pointerId);
        this.#player.seek(place(event));
      },
      pointermove: (event) => {
        if (this.node.hasPointerCapture(event.pointerId)) this.#player.seek(place(event));
        this.node.title = this.#shown(place(event));
      },
      keydown: (event) => this.#key(event),
      wheel: (event) => {
        if (!event.ctrlKey && !event.shiftKey) return;
        event.preventDefault();
        if (event.ctrlKey) this.zoomBy(event.deltaY < 0 ? 1.5 : 1 / 1.5);
        else { this.#from = this.#held(this.#from + ((event.deltaY || event.deltaX) / 800) * this.#width); this.draw(); }
      },
    };
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const to = event.key === "Home" ? 0 : event.key === "End" ? this.#duration : event.key in STEPS ? this.#player.time + STEPS[event.key] : null;
    if (to === null) return;
    event.preventDefault();
    event.stopPropagation();
    this.#player.seek(to);
  }

  #moved() {
    const { time } = this.#player;
    if (this.#zoom > 1 && (time < this.#from || time > this.#from + this.#width * 0.95)) this.#from = this.#held(time - this.#width * 0.1);
    const whole = Math.round(time);
    if (this.node.getAttribute("aria-valuenow") !== String(whole)) {
      this.node.setAttribute("aria-valuenow", whole);
      this.node.setAttribute("aria-valuemax", Math.ceil(this.#duration));
      this.node.setAttribute("aria-valuetext", `${this.#shown(time)} of ${this.#shown(this.#duration)}`);
    }
    this.draw();
  }

  /** Draws in the next frame; many calls are one. */
  draw() {
    this.#wants ||= requestAnimationFrame(() => { this.#wants = 0; this.#paint(); });
  }

  #paint() {
    const { clientWidth: width, clientHeight: height } = this.node;
    if (!width || !this.node.isConnected) return;
    const scale = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * scale) || this.canvas.height !== Math.round(height * scale))
      [this.canvas.width, this.canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
    const pen = this.canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const styles = getComputedStyle(document.documentElement);
    const colour = (name) => styles.getPropertyValue(name).trim();
    this.#paintBars(pen, width, height - 8, colour);
    this.#paintBands(pen, width, height, colour);
    const x = Math.round(this.#x(this.#player.time, width));
    pen.fillStyle = colour("--text");
    pen.fillRect(Math.min(width - 2, Math.max(0, x - 1)), 0, 2, height);
  }

  #x(time, width) { return ((time - this.#from) / this.#width) * width; }

  #paintBars(pen, width, height, colour) {
    const [played, ahead] = [colour("--accent"), colour("--line-strong")];
    const now = this.#x(this.#player.time, width);
    for (let x = 0; x < width; x += 3) {
      const size = Math.max(1, (this.#peak(x, x + 3, width) / 255) * (height - 2));
      pen.fillStyle = x < now ? played : ahead;
      pen.fillRect(x, (height - size) / 2, 2, size);
    }
  }

  #peak(x, next, width) {
    const from = Math.floor((this.#from + (x / width) * this.#width) / this.#step);
    const to = Math.max(from + 1, Math.floor((this.#from + (next / width) * this.#width) / this.#step));
    let most = 0;
    for (let at = from; at < to && at < this.#peaks.length; at++) most = Math.max(most, this.#peaks[at]);
    return most;
  }

  #paintBands(pen, width, height, colour) {
    for (const { start, end, colour: name } of this.#bands.speakers) {
      pen.fillStyle = colour(name);
      pen.fillRect(this.#x(start, width), height - 4, Math.max(1, this.#x(end, width) - this.#x(start, width)), 4);
    }
    pen.fillStyle = colour("--bad");
    for (const { start, end } of this.#bands.doubts)
      pen.fillRect(this.#x(start, width), height - 8, Math.max(2, this.#x(end, width) - this.#x(start, width)), 3);
  }

  close() {
    cancelAnimationFrame(this.#wants);
    this.#sizes.disconnect();
    this.#themes.disconnect();
  }
}
