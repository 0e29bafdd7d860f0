// Figures with their units, as the charts and tiles of this view write them.

import { number, span } from "../text.js";

const trimmed = (value, digits) => Number(value.toFixed(digits)).toLocaleString("en");

/** `0.084` -> `84 ms`, `1.52` -> `1.5 s`, `75` -> `1 min 15 s`; `–` for what is not known. */
export function seconds(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0 s";
  if (value < 0.9995) return `${Math.max(1, Math.round(value * 1000))} ms`;
  return value < 60 ? `${trimmed(value, value < 10 ? 1 : 0)} s` : span(value);
}

/** A share as whole percent, with a digit below ten: `0.034` -> `3.4 %`. */
export const share = (value) => (Number.isFinite(value) ? `${trimmed(value * 100, value < 0.1 ? 1 : 0)} %` : "–");

/** What is already in percent, as word error rates are: `7.13` -> `7.1 %`. */
export const percentage = (value) => (Number.isFinite(value) ? `${trimmed(value, 1)} %` : "–");

/** How many times real time: `12.34` -> `12×`, `0.25` -> `0.25×`. */
export const times = (value) => (Number.isFinite(value) ? `${trimmed(value, value < 1 ? 2 : value < 10 ? 1 : 0)}×` : "–");

/** A number with as many digits as it needs: `0.25`, `3.5`, `1,200`. */
export function plain(value) {
  if (!Number.isFinite(value)) return "–";
  if (value > 0 && value < 0.1) return String(Number(value.toPrecision(2)));
  return trimmed(value, value < 1 ? 2 : value < 100 ? 1 : 0);
}

/** A whole number, or `–`. */
export const whole = (value) => number(value);

/** One thing, or many of them: `1 window`, `3 windows`. */
export const counted = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
