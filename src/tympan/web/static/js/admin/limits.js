// The limits of a tenant: what each bounds, in which unit, and how a field of a form becomes what the API takes. Pure.

const MOST = 1_000_000_000;

/** `[name, title, unit, whole]`, in the order in which they are shown. */
export const LIMITS = [
  ["requests_per_min", "Requests in a minute", "", true],
  ["requests_at_once", "Requests at a time", "", true],
  ["jobs_at_once", "Jobs queued or running", "", true],
  ["live_at_once", "Live sessions at a time", "", true],
  ["audio_minutes_per_min", "Audio in a minute", "min", false],
  ["audio_minutes_per_day", "Audio in 24 hours", "min", false],
  ["audio_minutes", "Longest recording", "min", false],
  ["storage_mb", "Uploads and audio kept", "MB", true],
  ["upload_mb", "Largest upload", "MB", true],
];

/** Returns how a limit is written: `60`, `600 min`, `no limit`. */
export function written(value, unit) {
  if (!value) return "no limit";
  return `${Number(value).toLocaleString("en", { maximumFractionDigits: 3 })}${unit ? ` ${unit}` : ""}`;
}

/** Returns what a field says: `{value}` (`null` for an empty one: as the settings say), or `{wrong}` with what to write. */
export function read(text, { whole = false, least = 0, most = MOST } = {}) {
  const trimmed = text.trim();
  if (!trimmed) return { value: null };
  const value = Number(trimmed);
  if (!Number.isFinite(value) || value < least || value > most) return { wrong: `Write a number from ${least} to ${most.toLocaleString("en")}, or nothing.` };
  if (whole && !Number.isInteger(value)) return { wrong: "Write a whole number, or nothing." };
  return { value };
}

/** Returns the limits of its own that a tenant has, in words. */
export function own(limits) {
  return LIMITS.filter(([name]) => limits[name] !== null && limits[name] !== undefined)
    .map(([name, title, unit]) => `${title.toLowerCase()}: ${written(limits[name], unit)}`);
}
