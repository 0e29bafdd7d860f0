// Which runs of a list became which runs of another one, on a shortest way between the two.

const MAX_EDITS = 400;

/** Returns the runs that differ, in order: `old[a..b)` became `now[c..d)`. Items are compared with `===`; lists that have
 *  little in common come back as one run. */
export function changes(old, now) {
  let head = 0;
  while (head < old.length && head < now.length && old[head] === now[head]) head++;
  let [a, b] = [old.length, now.length];
  while (a > head && b > head && old[a - 1] === now[b - 1]) [a, b] = [a - 1, b - 1];
  if (head === a && head === b) return [];
  const whole = [{ a: head, b: a, c: head, d: b }];
  if (head === a || head === b) return whole;
  const trace = search(old.slice(head, a), now.slice(head, b));
  return trace ? runs(trace, a - head, b - head).map((run) => moved(run, head)) : whole;
}

const moved = ({ a, b, c, d }, by) => ({ a: a + by, b: b + by, c: c + by, d: d + by });

/** Returns how far each diagonal reaches after each number of edits (Myers 1986), `null` when that takes too many. */
function search(old, now) {
  const most = Math.min(old.length + now.length, MAX_EDITS);
  const reach = new Int32Array(2 * most + 3);
  const middle = most + 1;
  const trace = [];
  for (let edits = 0; edits <= most; edits++) {
    trace.push({ reach: reach.slice(), middle });
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      let x = begin(reach, middle, diagonal, edits);
      while (x < old.length && x - diagonal < now.length && old[x] === now[x - diagonal]) x++;
      reach[middle + diagonal] = x;
      if (x >= old.length && x - diagonal >= now.length) return trace;
    }
  }
  return null;
}

const isDown = (reach, middle, diagonal, edits) =>
  diagonal === -edits || (diagonal !== edits && reach[middle + diagonal - 1] < reach[middle + diagonal + 1]);

const begin = (reach, middle, diagonal, edits) =>
  isDown(reach, middle, diagonal, edits) ? reach[middle + diagonal + 1] : reach[middle + diagonal - 1] + 1;

/** Returns the way back through `trace` as runs. */
function runs(trace, x, y) {
  const found = [];
  for (let edits = trace.length - 1; edits > 0; edits--) {
    const { reach, middle } = trace[edits];
    const diagonal = x - y;
    const before = isDown(reach, middle, diagonal, edits) ? diagonal + 1 : diagonal - 1;
    const [fromX, fromY] = [reach[middle + before], reach[middle + before] - before];
    const [toX, toY] = before > diagonal ? [fromX, fromY + 1] : [fromX + 1, fromY];
    const next = found.at(-1);
    if (next && next.a === toX && next.c === toY) [next.a, next.c] = [fromX, fromY];
    else found.push({ a: fromX, b: toX, c: fromY, d: toY });
    [x, y] = [fromX, fromY];
  }
  return found.reverse();
}
