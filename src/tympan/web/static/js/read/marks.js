// What of a transcript is to be read again: words the model was unsure of, and segments that perhaps nobody said.

import { percent } from "../text.js";

/** From this score on a segment is called made up: there the engine decodes it again, too. */
export const MADE_UP = 0.5;
const LOW_CONFIDENCE = 0.6;
const DOUBT = "tympan.doubt";
const SWITCHES = "tympan.marks";

/** Which marks are shown, kept in the browser: `words`, `madeUp`, `speakers`, and below which probability a word is
 *  `doubt`ful. */
export function switches() {
  const kept = JSON.parse(localStorage.getItem(SWITCHES) ?? "{}");
  const doubt = Number(localStorage.getItem(DOUBT));
  return { words: true, madeUp: true, speakers: true, ...kept, doubt: doubt > 0 && doubt <= 1 ? doubt : 0.5 };
}

/** Keeps the switches for the next time. */
export function keep({ doubt, ...others }) {
  localStorage.setItem(DOUBT, doubt);
  localStorage.setItem(SWITCHES, JSON.stringify(others));
}

/** Whether a word is one to look at. */
export const isDoubtful = (word, { doubt }) => word.p !== null && word.p !== undefined && word.p < doubt;

/** Returns why a segment is perhaps made up, "" where it is not. `origin` is the segment as the server tells it. */
export function madeUp(origin) {
  const score = origin?.hallucination_score;
  if (!(score > MADE_UP)) return "";
  return `May be made up (${percent(score, 0)}): ${signs(origin).join(", ")}`;
}

/** Names the signs that stand in docs/explanation/confidence.md as far as the answer lets them be seen. */
function signs({ text, start, end, no_speech_prob: silence = 0, avg_logprob: chance = 0, compression_ratio: ratio = 0 }) {
  const rate = (text.match(/\p{L}/gu) ?? []).length / Math.max(0.1, end - start);
  const found = [
    [silence > 0.5, `the model heard no speech (${percent(silence, 0)})`],
    [chance < -0.8, "its words were unlikely"],
    [ratio > 2.4, "it repeats itself"],
    [rate > 30, "more text than anybody can say in that time"],
    [rate < 1 && end - start > 3, "hardly any text for that time"],
  ].filter(([is]) => is).map(([, text_]) => text_);
  return found.length ? found : ["a phrase that models make up, or no speech was found there"];
}

/** Returns why a whole segment should be read again where words have no probabilities, "" where it should not. */
export function unsure(origin, hasRatedWords) {
  const sure = origin?.confidence;
  return !hasRatedWords && typeof sure === "number" && sure < LOW_CONFIDENCE ? `The model was unsure of this (${percent(sure, 0)})` : "";
}
