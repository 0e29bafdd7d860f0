// What /metrics said, over the last minutes: rates and percentiles of what is counted, in a bounded store. Pure.

import { by, gained, growth, histogram, quantile, total } from "./prometheus.js";

// Seconds over which rates are taken, and percentiles: short enough to be now, long enough not to jump.
const RATE_S = 30;
const QUANTILE_S = 60;

const MOST_FIGURES = 900;
const MOST_PROCESSES = 8;
const GAP_S = 45;
const COUNTERS = {
  busy_s: ["tympan_batch_seconds_sum"],
  requests: ["tympan_requests_total"],
  errors: ["tympan_errors_total"],
  refusals: ["tympan_refusals_total"],
  calls_s: ["tympan_audio_duration_seconds_sum"],
  jobs_s: ["tympan_job_audio_seconds_total"],
  live_s: ["tympan_live_audio_seconds_total"],
  windows: ["tympan_windows_total"],
  fallbacks: ["tympan_fallbacks_total"],
};
const HISTOGRAMS = {
  latency: ["tympan_latency_seconds"],
  stream: ["tympan_first_text_seconds", { way: "stream" }],
  live: ["tympan_first_text_seconds", { way: "live" }],
};

const mapped = (shape, make) => Object.fromEntries(Object.entries(shape).map(([name, value]) => [name, make(value)]));

/** Returns what is kept of one reading of all metrics, taken at the Unix time `at`. */
export function reading(metrics, at) {
  const [depth, audio] = [by(metrics, "tympan_queue_depth", "lane"), by(metrics, "tympan_queued_audio_seconds", "lane")];
  return {
    at,
    process: total(metrics, "process_start_time_seconds") ?? 0,
    counters: mapped(COUNTERS, (args) => total(metrics, ...args)),
    histograms: mapped(HISTOGRAMS, (args) => histogram(metrics, ...args)),
    engines: total(metrics, "tympan_engines"),
    in_house: total(metrics, "tympan_requests_in_progress"),
    live_sessions: total(metrics, "tympan_live_sessions"),
    predicted_wait_s: total(metrics, "tympan_predicted_wait_seconds"),
    backlog_s: total(metrics, "tympan_job_backlog_seconds"),
    lanes: Object.fromEntries(Object.entries(audio).map(([lane, audio_s]) => [lane, { windows: depth[lane] ?? 0, audio_s }])),
    jobs: by(metrics, "tympan_jobs", "state"),
    factors: by(metrics, "tympan_realtime_factor", "model"),
  };
}

/** Returns the figures of a moment: `now` beside the earlier readings of the same process, oldest first. Rates are per
 *  second; what cannot be known yet is `null`. */
export function figures(now, earlier) {
  const then = since(earlier, now.at - RATE_S);
  const span = then ? now.at - then.at : 0;
  // A counter that is not there has not counted yet.
  const rate = (name) => (span > 0 ? growth(then.counters[name], now.counters[name]) / span : null);
  const share = (part, whole) => (rate(whole) > 0 ? rate(part) / rate(whole) : null);
  const before = since(earlier, now.at - QUANTILE_S);
  const late = (name, q) => (before ? quantile(gained(before.histograms[name], now.histograms[name]), q) : null);
  const { at, in_house, live_sessions, predicted_wait_s, backlog_s, lanes, jobs, factors } = now;
  return {
    at, in_house, live_sessions, predicted_wait_s, backlog_s, lanes, jobs, factors,
    isFresh: !now.counters.requests && !now.counters.jobs_s && !now.counters.live_s && !now.in_house && !jobs.running && !jobs.queued,
    busy: now.engines > 0 && span > 0 ? Math.min(1, rate("busy_s") / now.engines) : null,
    requests: rate("requests"),
    errors: rate("errors"),
    refusals: rate("refusals"),
    error_share: share("errors", "requests"),
    fallback_share: share("fallbacks", "windows"),
    calls_s: rate("calls_s"),
    jobs_s: rate("jobs_s"),
    live_s: rate("live_s"),
    latency_p50: late("latency", 0.5), latency_p95: late("latency", 0.95),
    first_stream: late("stream", 0.95), first_live: late("live", 0.95),
  };
}

/** Returns the latest reading that is from `at` or before, or the first there is. */
function since(readings, at) {
  let found = readings[0] ?? null;
  for (const each of readings) if (each.at <= at) found = each;
  return found;
}

/** Figures of the last hour or so of each process that answered: behind a load balancer they take turns, and their
 *  counters must not be mixed. Old figures go first, and so do processes that have not answered for long. */
export class History {
  #processes = new Map();

  /** Takes a reading in and returns its figures. */
  add(now) {
    const kept = this.#processes.get(now.process) ?? { readings: [], figures: [] };
    const last = kept.readings.at(-1);
    // After a gap, while nobody looked, there is no rate of this moment; a clock that was set back is a gap too.
    if (last && (now.at - last.at > GAP_S || now.at <= last.at)) kept.readings = [];
    const found = figures(now, kept.readings);
    kept.readings = [...kept.readings.filter(({ at }) => at > now.at - QUANTILE_S * 1.5), now];
    kept.figures = [...kept.figures.filter(({ at }) => at < now.at), found].slice(-MOST_FIGURES);
    this.#processes.delete(now.process);
    this.#processes.set(now.process, kept);
    if (this.#processes.size > MOST_PROCESSES) this.#processes.delete(this.#processes.keys().next().value);
    return found;
  }

  /** The start times of the processes that answered, the last one last. */
  get processes() {
    return [...this.#processes.keys()];
  }

  /** Returns the figures of a process since `from`, oldest first. */
  of(process, from = 0) {
    return (this.#processes.get(process)?.figures ?? []).filter(({ at }) => at >= from);
  }
}
