// Draws lines, bands, stacked areas and bars into an SVG whose units are pixels. Decoration only: charts.js says the same in words.

import { svg } from "../dom.js";
import { linear, runs, stacked, ticks, timeLabel, timeTicks } from "./scales.js";

const LETTER_PX = 7;
const BOTTOM_PX = 22;
const TOP_PX = 8;
const RIGHT_PX = 10;
const LABEL_PX = 80;
const DAYS_S = 10 * 86400;

/** Draws `data` as `spec` says into `node` (see `chart`), `width` by `height` pixels. Returns where things are: `{xs, top,
 *  bottom}`, the places of all moments and the ends of the area that is drawn on. */
export function draw(node, { width, height }, spec, data) {
  const { rows, highest } = shaped(spec, data);
  const marks = ticks(0, Math.max(highest, spec.least ?? 0) || 1, height < 140 ? 2 : 4);
  const labels = marks.map(spec.format);
  const left = Math.max(...labels.map((text) => text.length)) * LETTER_PX + 10;
  const [top, bottom, right] = [TOP_PX, height - BOTTOM_PX, width - RIGHT_PX];
  const y = linear(0, marks.at(-1), bottom, top);
  const x = across(spec, data, left, right);
  const grid = marks.map((value, i) => [
    svg("line", { class: "grid-line", x1: left, x2: right, y1: y(value), y2: y(value) }),
    svg("text", { class: "tick", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, labels[i]),
  ]);
  node.replaceChildren(...grid.flat(), ...axis(spec, data, x, { left, right, bottom, height }),
    ...rows.flatMap((row, i) => shape(spec, data, row, i, x, y)));
  return { xs: data.xs.map((_, i) => x.place(i)), top, bottom };
}

/** Returns the rows as they are drawn (stacked ones as `[from, to]`), and the highest value of all. */
function shaped(spec, data) {
  const rows = spec.stack ? stacked(data.rows) : data.rows;
  const tops = rows.flat(spec.stack ? 2 : 1).concat((data.bands ?? []).flat(2)).filter(Number.isFinite);
  return { rows, highest: tops.reduce((most, value) => Math.max(most, value), 0) };
}

/** Returns how moments lie side by side: by time, or one place for each. */
function across(spec, data, left, right) {
  if (spec.categories) {
    const width = (right - left) / Math.max(1, data.xs.length);
    return { place: (i) => left + width * (i + 0.5), width };
  }
  const [first, last] = data.span ?? [data.xs[0] ?? 0, data.xs.at(-1) ?? 1];
  const single = first === last;
  const scale = linear(single ? first - 1 : first, single ? last + 1 : last, left + 2, right - 2);
  return { place: (i) => scale(data.xs[i]), scale, first, last };
}

function axis(spec, data, x, { left, right, bottom, height }) {
  const line = svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom });
  const room = Math.max(1, Math.floor((right - left) / LABEL_PX));
  const marks = spec.categories ? names(spec, data, x, room) : times(x, room);
  const texts = marks.map(([at, text]) =>
    svg("text", { class: "tick", x: Math.min(right - text.length * 3, Math.max(left + text.length * 3, at)), y: height - 5, "text-anchor": "middle" }, text));
  return [line, ...texts];
}

function names(spec, data, x, room) {
  const every = Math.ceil(data.xs.length / room);
  return data.xs.map((name, i) => [x.place(i), spec.label(name)]).filter((_, i) => i % every === 0);
}

function times({ scale, first, last }, room) {
  const found = timeTicks(first, last, room);
  // A single moment, or few of one day, have no full step between them.
  return (found.length ? found : [last]).map((at) => [scale(at), timeLabel(at, last - first || DAYS_S)]);
}

function shape(spec, data, row, i, x, y) {
  const style = { "--c": `var(--series-${spec.series[i].tone})` };
  if (spec.categories) return bars(row, spec.stack, style, x, y);
  if (spec.stack) return [svg("path", { class: "area", style, d: between(row.map(([from]) => from), row.map(([, to]) => to), x, y) })];
  const band = data.bands?.[i];
  const parts = [svg("path", { class: "line", style, "stroke-dasharray": spec.series[i].dash ?? null, d: path(row, x, y) })];
  if (band?.length) parts.unshift(svg("path", { class: "band", style, d: between(band.map(([low]) => low), band.map(([, high]) => high), x, y) }));
  return spec.dots ? [...parts, ...dots(row, style, x, y)] : [...parts, ...lonely(row, style, x, y)];
}

const point = (i, value, x, y) => `${x.place(i).toFixed(1)},${y(value).toFixed(1)}`;

function path(row, x, y) {
  return runs(row).map((run) => `M${run.map((i) => point(i, row[i], x, y)).join("L")}`).join("");
}

function between(low, high, x, y) {
  const both = low.map((value, i) => (Number.isFinite(value) && Number.isFinite(high[i]) ? value : null));
  return runs(both).map((run) => {
    const back = run.toReversed().map((i) => point(i, low[i], x, y));
    return `M${[...run.map((i) => point(i, high[i], x, y)), ...back].join("L")}Z`;
  }).join("");
}

function bars(row, isStack, style, x, y) {
  const thick = Math.max(1, Math.min(48, x.width * 0.7));
  return row.flatMap((value, i) => {
    const [from, to] = isStack ? value : [0, value];
    if (!(to > from)) return [];
    return [svg("rect", { class: "bar-part", style, x: x.place(i) - thick / 2, width: thick, y: y(to), height: Math.max(1, y(from) - y(to)) })];
  });
}

const dot = (row, style, x, y) => (i) => svg("circle", { class: "dot", style, cx: x.place(i), cy: y(row[i]), r: 4 });

function dots(row, style, x, y) {
  return runs(row).flat().map(dot(row, style, x, y));
}

/** A value without neighbours is no line; it shows as a dot. */
function lonely(row, style, x, y) {
  return runs(row).filter((run) => run.length === 1).flat().map(dot(row, style, x, y));
}
