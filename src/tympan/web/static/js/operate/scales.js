// From values to places on a chart: scales and ticks that people can read. Pure.

const STEPS = [1, 2, 2.5, 5, 10];
const TIMES_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000];

/** Returns a function from a value between `low` and `high` to a place between `from` and `to`. */
export function linear(low, high, from, to) {
  const width = high - low || 1;
  return (value) => from + ((value - low) / width) * (to - from);
}

/** Returns the first round step that cuts `range` into no more than `most` parts. */
export function step(range, most) {
  if (!(range > 0) || !Number.isFinite(range)) return 1;
  const raw = range / Math.max(1, most);
  const unit = 10 ** Math.floor(Math.log10(raw));
  return unit * STEPS.find((each) => each * unit >= raw * (1 - 1e-9));
}

/** Returns round values from at or below `low` to at or above `high`, no more than `most` parts (one more at the ends). */
export function ticks(low, high, most = 4) {
  const width = step(high - low || Math.abs(high) || 1, most);
  const [first, last] = [Math.floor(low / width + 1e-9), Math.ceil(high / width - 1e-9)];
  return Array.from({ length: Math.max(2, last - first + 1) }, (_, i) => Number(((first + i) * width).toPrecision(12)));
}

/** Returns moments between two Unix times that people count in (full minutes, hours, days), `most` at the most. */
export function timeTicks(first, last, most = 5) {
  const width = TIMES_S.find((each) => (last - first) / each <= most) ?? TIMES_S.at(-1);
  const offset = new Date(first * 1000).getTimezoneOffset() * 60;
  const found = [];
  for (let at = Math.ceil((first - offset) / width) * width + offset; at <= last && found.length <= most; at += width) found.push(at);
  return found;
}

/** Returns how a moment is written below an axis that covers `range` seconds. */
export function timeLabel(at, range) {
  const date = new Date(at * 1000);
  if (range <= 300) return date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  if (range <= 2 * 86400) return date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  if (range <= 300 * 86400) return date.toLocaleDateString(undefined, { day: "numeric", month: "short" });
  return date.toLocaleDateString(undefined, { month: "short", year: "numeric" });
}

/** Returns the position of the value in the rising list `values` that is nearest to `wanted`; -1 for an empty list. */
export function nearest(values, wanted) {
  let best = -1;
  values.forEach((value, i) => { if (best < 0 || Math.abs(value - wanted) < Math.abs(values[best] - wanted)) best = i; });
  return best;
}

/** Returns lists of `[from, to]` for each of `rows` (lists of equal length), each on top of the one before. */
export function stacked(rows) {
  const tops = [];
  return rows.map((row) => row.map((value, i) => {
    const from = tops[i] ?? 0;
    tops[i] = from + (Number.isFinite(value) ? Math.max(0, value) : 0);
    return [from, tops[i]];
  }));
}

/** Returns runs of neighbours that are there, as lists of positions: a gap in the values is a gap in the line. */
export function runs(values) {
  const found = [];
  values.forEach((value, i) => {
    if (!Number.isFinite(value)) return;
    if (i && Number.isFinite(values[i - 1]) && found.length) found.at(-1).push(i);
    else found.push([i]);
  });
  return found;
}
