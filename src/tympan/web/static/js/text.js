// Numbers, times and sizes as people read them.

const pad = (number) => String(number).padStart(2, "0");

/** `75.2` -> `1:15`, `4000` -> `1:06:40`. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds || 0));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours ? `${hours}:${pad(minutes)}:${pad(rest)}` : `${minutes}:${pad(rest)}`;
}

/** `75.2` -> `1 min 15 s`, `4000` -> `1 h 7 min`: how long something takes. */
export function span(seconds) {
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(seconds < 1 ? 1 : 0)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return whole % 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole / 60} min`;
  const minutes = Math.round(whole / 60);
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}

/** `1536000` -> `1.5 MB`. */
export function bytes(count) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let [value, unit] = [count, 0];
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** A time as the API tells it (RFC 3339, or Unix seconds) -> date and time of day here. */
export function moment(value) {
  if (value === null || value === undefined || value === "") return "";
  const date = new Date(typeof value === "number" ? value * 1000 : value);
  return date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** How long ago a time is: `3 min ago`. */
export function ago(value) {
  const date = new Date(typeof value === "number" ? value * 1000 : value);
  const seconds = (Date.now() - date.getTime()) / 1000;
  if (seconds < 45) return "just now";
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
  return date.toLocaleDateString(undefined, { dateStyle: "medium" });
}

/** `0.1234` -> `12.3 %`. */
export const percent = (share, digits = 1) => (Number.isFinite(share) ? `${(share * 100).toFixed(digits)} %` : "–");

/** `1234567` -> `1,234,567`. */
export const number = (value, digits = 0) =>
  Number.isFinite(value) ? value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits }) : "–";

/** `de` -> `German`, in the browser's language; the code itself where it is not known. */
export function language(code) {
  if (!code) return "";
  try {
    return new Intl.DisplayNames([navigator.language, "en"], { type: "language" }).of(code) || code;
  } catch {
    return code;
  }
}
