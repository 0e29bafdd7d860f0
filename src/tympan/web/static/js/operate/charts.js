// Charts that can be read by eye, by keyboard and by ear: a drawing, a legend that tells the values of the moment under the
// pointer or the arrow keys, a summary, and the same as a table.

import { el, fill, svg } from "../dom.js";
import { draw } from "./plot.js";
import { nearest, timeLabel } from "./scales.js";

const TABLE_ROWS = 60;
const KEYS = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };

const redraws = new WeakMap();
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.isConnected) redraws.get(target)?.();
    else sizes.unobserve(target);
  }
});
let count = 0;

/** Makes a chart and returns `{node, show(data)}`.
 *
 *  `spec`: `title`; `series`, each with a `name`, a `tone` from 1 to 8 and perhaps a `dash`; `format(value)`; and if wanted
 *  `stack` (areas, or bars on top of each other), `categories` (a bar for each of `xs`, which `label(x)` names; else `xs`
 *  are Unix times in seconds), `dots` (every value is marked), `least` (the axis goes at least to there), `height` in
 *  pixels, `level` of the heading, `empty` (what stands there without data), `note(i)` (more words about a moment).
 *
 *  `data`: `xs`, rising, and `rows`, a list of values for each series, `null` where there is none; if wanted `bands`, lists
 *  of `[low, high]`, and `span`, the first and the last moment of the axis. */
export function chart(spec) {
  const made = { spec: { height: 168, level: 3, label: String, empty: "Nothing measured yet.", ...spec }, data: { xs: [], rows: [] }, at: null };
  made.id = `chart-${++count}`;
  made.svg = svg("svg", { "aria-hidden": "true", focusable: "false" });
  made.cursor = svg("line", { class: "cursor" });
  made.plot = plotOf(made);
  made.empty = el("p", { class: "chart-empty soft", text: made.spec.empty });
  made.legend = el("div", { class: "legend number" });
  made.summary = el("p", { class: "unseen", id: `${made.id}-sum` });
  made.table = el("details", { class: "chart-table small", on: { toggle: () => showTable(made) } }, el("summary", { text: "As a table" }), el("div", { class: "table-wrap", tabindex: "0", role: "region", "aria-label": `${made.spec.title}, table` }));
  made.node = el("figure", { class: "chart", "aria-labelledby": made.id },
    el(`h${made.spec.level}`, { id: made.id, text: made.spec.title }),
    made.legend, el("div", { class: "plot-box", style: { "min-height": `${made.spec.height}px` } }, made.plot, made.empty), made.summary, made.table);
  redraws.set(made.plot, () => paint(made));
  sizes.observe(made.plot);
  show(made, made.data);
  return { node: made.node, show: (data) => show(made, data) };
}

function plotOf(made) {
  return el("div", {
    class: "plot", role: "slider", tabindex: "0", "aria-label": `${made.spec.title}: choose a moment`, "aria-describedby": `${made.id}-sum`,
    "aria-valuemin": "0", style: { height: `${made.spec.height}px` },
    on: {
      pointermove: (event) => point(made, event),
      pointerleave: () => { if (document.activeElement !== made.plot) choose(made, null); },
      blur: () => choose(made, null),
      keydown: (event) => step(made, event),
    },
  }, made.svg);
}

function show(made, data) {
  made.data = data;
  // A chosen moment stays the chosen one while newer ones come.
  made.at = made.moment === undefined || made.at === null ? null : Math.max(0, nearestTo(made, made.moment));
  const isEmpty = !data.rows.some((row) => row.some(Number.isFinite));
  made.plot.hidden = isEmpty;
  made.empty.hidden = !isEmpty;
  made.table.hidden = isEmpty;
  made.summary.textContent = isEmpty ? made.spec.empty : summary(made);
  paint(made);
  tell(made);
  if (made.table.open) showTable(made);
}

const nearestTo = (made, moment) => (made.spec.categories ? made.data.xs.indexOf(moment) : nearest(made.data.xs, moment));

function paint(made) {
  const width = made.plot.clientWidth;
  if (!width || made.plot.hidden) return;
  made.svg.setAttribute("width", width);
  made.svg.setAttribute("height", made.spec.height);
  made.places = draw(made.svg, { width, height: made.spec.height }, made.spec, made.data);
  made.svg.append(made.cursor);
  moveCursor(made);
}

function moveCursor(made) {
  const x = made.at === null ? null : made.places?.xs[made.at];
  made.cursor.setAttribute("visibility", Number.isFinite(x) ? "visible" : "hidden");
  if (!Number.isFinite(x)) return;
  for (const [name, value] of Object.entries({ x1: x, x2: x, y1: made.places.top, y2: made.places.bottom })) made.cursor.setAttribute(name, value);
}

function point(made, event) {
  if (!made.places) return;
  choose(made, nearest(made.places.xs, event.clientX - made.plot.getBoundingClientRect().left));
}

function step(made, event) {
  const by = KEYS[event.key];
  if (by === undefined) return;
  event.preventDefault();
  const last = made.data.xs.length - 1;
  choose(made, Math.min(last, Math.max(0, (made.at ?? last) + by)));
}

function choose(made, at) {
  made.at = at;
  made.moment = at === null ? undefined : made.data.xs[at];
  moveCursor(made);
  tell(made);
}

/** Tells the values of the chosen moment, or of the last one. */
function tell(made) {
  const { spec, data, plot } = made;
  const at = made.at ?? data.xs.length - 1;
  const values = spec.series.map(({ name }, i) => [name, data.rows[i]?.[at], data.bands?.[i]?.[at]]);
  const when = data.xs.length ? nameOf(spec, data, at) : "";
  const entries = values.map(([name, value, band], i) => el("span", { class: `key${spec.series[i].dash ? " dashed" : ""}`, style: { "--c": `var(--series-${spec.series[i].tone})` } },
    `${spec.series.length > 1 || spec.named ? `${name} ` : ""}`, el("b", { text: shown(spec, value, band) })));
  fill(made.legend, entries, el("span", { class: "soft", text: made.at === null && !spec.categories ? "" : when }), made.at !== null && spec.note && el("span", { class: "soft", text: spec.note(at) }));
  plot.setAttribute("aria-valuemax", Math.max(0, data.xs.length - 1));
  plot.setAttribute("aria-valuenow", Math.max(0, at));
  plot.setAttribute("aria-valuetext", `${when}: ${values.map(([name, value, band]) => `${name} ${shown(spec, value, band)}`).join(", ")}`);
}

function shown(spec, value, band) {
  if (!Number.isFinite(value)) return "–";
  return band && Number.isFinite(band[0]) ? `${spec.format(value)} (${spec.format(band[0])} to ${spec.format(band[1])})` : spec.format(value);
}

function nameOf(spec, data, at) {
  if (spec.categories) return spec.label(data.xs[at]);
  return timeLabel(data.xs[at], data.xs.length > 1 && spanOf(data) > 86400 ? 10 * 86400 : 300);
}

const spanOf = ({ xs, span }) => (span ? span[1] - span[0] : xs.at(-1) - xs[0]);

function summary({ spec, data }) {
  return `${data.xs.length} moments. ` + spec.series.map(({ name }, i) => {
    const values = (data.rows[i] ?? []).filter(Number.isFinite);
    if (!values.length) return `${name}: nothing.`;
    return `${name}: last ${spec.format(values.at(-1))}, lowest ${spec.format(Math.min(...values))}, highest ${spec.format(Math.max(...values))}.`;
  }).join(" ");
}

function showTable(made) {
  if (!made.table.open) return;
  const { spec, data } = made;
  const every = Math.ceil(data.xs.length / TABLE_ROWS) || 1;
  const chosen = data.xs.map((_, i) => i).filter((i) => (data.xs.length - 1 - i) % every === 0);
  if (!spec.categories) chosen.reverse();
  fill(made.table.lastElementChild, el("table", {},
    el("thead", {}, el("tr", {}, [spec.first ?? (spec.categories ? "" : "Time"), ...spec.series.map(({ name }) => name)].map((text) => el("th", { scope: "col", text })))),
    el("tbody", {}, chosen.map((i) => el("tr", {}, el("td", { text: nameOf(spec, data, i) }),
      spec.series.map((_, row) => el("td", { class: "number", text: shown(spec, data.rows[row]?.[i], data.bands?.[row]?.[i]) })))))));
}

/** Returns a small line without axes: decoration beside a figure that is also told in words. */
export function sparkline(values, tone = 1) {
  const found = values.map((value) => (Number.isFinite(value) ? value : null));
  const most = Math.max(...found.filter(Number.isFinite), 0) || 1;
  const at = (value, i) => `${((i / Math.max(1, found.length - 1)) * 100).toFixed(1)},${(23 - (value / most) * 21).toFixed(1)}`;
  const lines = [];
  found.forEach((value, i) => { if (value !== null) (i && found[i - 1] !== null ? lines.at(-1) : lines[lines.push([]) - 1]).push(at(value, i)); });
  return svg("svg", { class: "spark", viewBox: "0 0 100 25", preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false", style: { "--c": `var(--series-${tone})` } },
    lines.map((line) => svg("polyline", { points: line.join(" ") })));
}
