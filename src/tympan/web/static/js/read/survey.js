// A look through all of a transcript: where it is doubtful, and who speaks when.

import { isDoubtful, madeUp, unsure } from "./marks.js";

const SLICE_MS = 8;

/** Returns `{doubts, words, segments, speakers}`: doubtful places in order of time, how many of them are words and
 *  segments, and stretches with a speaker's colour. Hours of text are looked through in slices; `null` once `isWanted()`
 *  says no. */
export async function survey(desk, segments, isWanted) {
  const doubts = [];
  let [words, made, until] = [0, 0, performance.now() + SLICE_MS];
  for (const [index, segment] of segments.entries()) {
    if (performance.now() > until) {
      await new Promise((go) => setTimeout(go));
      if (!isWanted()) return null;
      until = performance.now() + SLICE_MS;
    }
    const { low, whole } = doubtsIn(desk, segment);
    words += low.length;
    made += whole ? 1 : 0;
    for (const { start, end } of low) doubts.push({ index, start, end });
    if (whole) doubts.push({ index, start: segment.start, end: segment.end, isMadeUp: whole.isMadeUp });
  }
  doubts.sort((one, two) => one.start - two.start);
  return { doubts, words, segments: made, speakers: bands(segments, (speaker) => `--series-${desk.colourOf(speaker)}`) };
}

function doubtsIn({ manuscript, marks, isTimed }, segment) {
  const { words, origin } = manuscript.about(segment);
  const isMadeUp = marks.madeUp && Boolean(madeUp(origin));
  const isUnsure = marks.words && Boolean(unsure(origin, isTimed));
  return { low: marks.words ? words.filter((word) => isDoubtful(word, marks)) : [], whole: isMadeUp || isUnsure ? { isMadeUp } : null };
}

/** Returns the stretches in which one speaker speaks in a row. */
function bands(segments, colour) {
  const found = [];
  for (const { start, end, speaker } of segments) {
    if (!speaker) continue;
    const last = found.at(-1);
    if (last && last.speaker === speaker && start - last.end < 2) last.end = end;
    else found.push({ start, end, speaker, colour: colour(speaker) });
  }
  return found;
}
