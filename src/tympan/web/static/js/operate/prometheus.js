// Prometheus' text format, as /metrics speaks it, and what the figures in it say. Pure: no page, no clock.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+\S+)?$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPES = { n: "\n", '"': '"', "\\": "\\" };

/** Returns the samples of a page of metrics, by name: `Map(name -> [{labels: {name: value}, value}])`. Lines that are no
 *  samples are left out; `+Inf` and `NaN` are what they say. */
export function parse(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const parts = line.startsWith("#") ? null : LINE.exec(line.trim());
    const value = parts && amount(parts[3]);
    if (!parts || value === null) continue;
    if (!found.has(parts[1])) found.set(parts[1], []);
    found.get(parts[1]).push({ labels: labelsOf(parts[2]), value });
  }
  return found;
}

function amount(text) {
  const special = { "+Inf": Infinity, Inf: Infinity, "-Inf": -Infinity, NaN }[text];
  if (special !== undefined) return special;
  const value = Number(text);
  return Number.isNaN(value) ? null : value;
}

function labelsOf(text = "") {
  const labels = Object.create(null);
  for (const [, name, value] of text.matchAll(LABEL)) labels[name] = value.replace(/\\(.)/g, (whole, sign) => ESCAPES[sign] ?? whole);
  return labels;
}

const matches = (labels, wanted) => Object.entries(wanted).every(([name, value]) => labels[name] === value);

/** Returns the sum of a metric's samples that have the labels `wanted`; `null` when there is none. */
export function total(metrics, name, wanted = {}) {
  const samples = (metrics.get(name) ?? []).filter(({ labels }) => matches(labels, wanted));
  return samples.length ? samples.reduce((sum, { value }) => sum + value, 0) : null;
}

/** Returns a metric's sums by the values of one label: `{value: sum}`. */
export function by(metrics, name, label) {
  const sums = Object.create(null);
  for (const { labels, value } of metrics.get(name) ?? []) sums[labels[label] ?? ""] = (sums[labels[label] ?? ""] ?? 0) + value;
  return sums;
}

/** Returns a histogram summed over all labels but those `wanted`: `{bounds, counts, sum, count}`; `counts[i]` is how many
 *  lay at or below `bounds[i]`. `null` when there is none. */
export function histogram(metrics, name, wanted = {}) {
  const buckets = new Map();
  for (const { labels, value } of metrics.get(`${name}_bucket`) ?? [])
    if (matches(labels, wanted)) buckets.set(amount(labels.le), (buckets.get(amount(labels.le)) ?? 0) + value);
  if (!buckets.size) return null;
  const bounds = [...buckets.keys()].sort((a, b) => a - b);
  return {
    bounds, counts: bounds.map((bound) => buckets.get(bound)),
    sum: total(metrics, `${name}_sum`, wanted) ?? 0, count: total(metrics, `${name}_count`, wanted) ?? 0,
  };
}

/** Returns how much a counter grew. One that is smaller than before was started anew, and counts from 0; one that was not
 *  there before (`null`) began at 0 as well. */
export function growth(before, after) {
  if (after === null || after === undefined) return 0;
  return after < (before ?? 0) ? after : after - (before ?? 0);
}

/** Returns what a histogram gained between two readings, in its own shape; `null` when there is nothing later. */
export function gained(before, after) {
  if (!after) return null;
  const same = before && before.count <= after.count && before.bounds.length === after.bounds.length;
  if (!same) return after;
  return {
    bounds: after.bounds, counts: after.counts.map((count, i) => Math.max(0, count - before.counts[i])),
    sum: after.sum - before.sum, count: after.count - before.count,
  };
}

/** Returns the value below which the share `q` of a histogram lies, straight between the bounds of its bucket; `null` for
 *  an empty one. What lies above the last bound counts as that bound. */
export function quantile(found, q) {
  const all = found?.counts.at(-1) ?? 0;
  if (!all) return null;
  const rank = q * all;
  const at = found.counts.findIndex((count) => count >= rank && count > 0);
  const high = found.bounds[at];
  if (high === Infinity) return at ? found.bounds[at - 1] : null;
  const [low, below] = at ? [found.bounds[at - 1], found.counts[at - 1]] : [0, 0];
  return low + ((high - low) * (rank - below)) / (found.counts[at] - below || 1);
}
