// What live traffic tells: languages, drift of what callers send, the second opinion, a model on trial.

import { el } from "../dom.js";
import { language, number } from "../text.js";
import { card, commandLine, nothing, table, tag } from "./parts.js";
import { counted, percentage, share } from "./units.js";

const LANGUAGES = 12;
const WAYS = { call: "calls", live: "live", job: "jobs" };
const VERDICTS = { worse: ["worse", "bad"], no_worse: ["no worse", "good"], not_known: ["not known yet", ""] };

/** Returns the cards about live traffic. */
export function trafficCards(traffic) {
  if (!traffic) return card("Live traffic", null, nothing("Traffic is not counted here: TRAFFIC_DAYS is 0."));
  const isEmpty = !traffic.features.length;
  const days = `${traffic.window.first} to ${traffic.window.last} beside ${traffic.baseline.first} to ${traffic.baseline.last} (UTC)${traffic.baseline_is_kept ? ", which are kept" : ""}`;
  if (isEmpty) return card("Live traffic", null, nothing("Nothing was transcribed yet, or not counted yet: that may take a minute. Once there are transcripts, their languages stand here, and whether what callers send has changed."));
  return [card("Languages", el("span", { class: "soft small", text: days }), languages(traffic.languages)), card("What callers send", drifted(traffic), drift(traffic.features))];
}

function languages(found) {
  if (!found.length) return nothing("No language was counted yet.");
  const shown = found.slice(0, LANGUAGES);
  const rest = found.slice(LANGUAGES);
  const most = Math.max(...shown.flatMap((each) => [each.share, each.share_before]), 0.01);
  const hasBefore = found.some((each) => each.share_before > 0);
  return [
    table("Languages of transcripts", ["Language", ["Share", "wide-only"], ["Transcripts", "number"], ["Now", "number"], ["Before", "number"]],
      shown.map((each) => [nameOf(each.language), pair(each.share, hasBefore ? each.share_before : null, most), number(each.count), share(each.share), hasBefore ? share(each.share_before) : "–"])),
    rest.length ? el("p", { class: "soft small", text: `and ${counted(rest.length, "more language", "more languages")}` }) : null,
    el("p", { class: "soft small" }, el("span", { class: "swatch now" }), " now ", el("span", { class: "swatch before" }), hasBefore ? " before" : " before (nothing counted yet)"),
  ];
}

const nameOf = (code) => (!code || code === "none" ? "nobody spoke" : language(code));

function pair(now, before, most) {
  const bar = (value, kind) => el("span", { class: `share-bar ${kind}`, style: { width: `${((100 * value) / most).toFixed(1)}%` } });
  return el("div", { class: "pair", "aria-hidden": "true" }, bar(now, "now"), before === null ? null : bar(before, "before"));
}

function drifted(traffic) {
  const count = traffic.features.filter((each) => each.is_drift).length;
  const known = traffic.features.some((each) => !each.reason);
  if (count) return tag(`${count} changed`, "bad");
  return known ? tag("as before", "good") : tag("too little to tell yet");
}

function drift(features) {
  const order = (each) => (each.is_drift ? 0 : each.reason ? 2 : 1);
  const rows = [...features].sort((a, b) => order(a) - order(b) || b.psi - a.psi).map((each) => [
    each.title, WAYS[each.kind] ?? each.kind, each.reason ? tag("not known") : each.is_drift ? tag("changed", "bad") : tag("as before", "good"),
    each.reason ? "–" : number(each.psi, 3), each.reason ? "–" : number(each.chance_psi, 3), number(each.n_now), number(each.n_before),
    el("span", { class: "small", text: each.reason ?? (each.is_drift ? moved(each) : "") }),
  ]);
  return [
    el("p", { class: "soft small", text: "How much the last days differ from those before (PSI), and what chance alone would give. About 0.2 or more is a large change." }),
    table("Features of live traffic", ["Feature", "Of", "Verdict", ["PSI", "number"], ["By chance", "number"], ["Now", "number"], ["Before", "number"], "Why"], rows),
  ];
}

/** Says which bin gained and which lost most. */
function moved(each) {
  const by = [...each.bins].sort((a, b) => b.now - b.before - (a.now - a.before));
  const [up, down] = [by[0], by.at(-1)];
  const name = (bin) => (each.ordered ? `from ${bin.bin}` : bin.bin);
  return up && down ? `more ${name(up)} (${share(up.before)} → ${share(up.now)}), less ${name(down)} (${share(down.before)} → ${share(down.now)})` : "";
}

/** Returns the card about the model that hears some windows again. */
export function shadowCard(shadow) {
  if (!shadow) return null;
  const rows = shadow.disagreement.map((each) => [each.model, WAYS[each.kind] ?? each.kind, opinion(each.now), number(each.now.words), opinion(each.before), number(each.before.words)]);
  if (!rows.length)
    return card("Second opinion", null, shadow.model
      ? nothing(`${shadow.model} hears some windows again; none has been counted yet.`)
      : nothing("A second model that hears 1 % of the audio shows when the first one gets worse. Name one in the settings file:", commandLine("models = [\"small\"]\nshadow_model = \"small\"")));
  return card("Second opinion", shadow.model ? tag(shadow.model, "busy") : tag("off now"),
    el("p", { class: "soft small", text: "Words in which a model differs from the second one. Two good models differ too; what counts is whether the rate stays." }),
    table("Disagreement with the second model", ["Model", "Of", ["Now", "number"], ["Words", "number"], ["Before", "number"], ["Words", "number"]], rows));
}

function opinion({ wer_percent: rate, wer_interval_percent: bounds }) {
  if (rate === null) return "–";
  return bounds ? `${percentage(rate)} (${percentage(bounds[0])} to ${percentage(bounds[1])})` : percentage(rate);
}

/** Returns the card about a model on trial, or nothing. */
export function rolloutCard(rollout) {
  if (!rollout) return null;
  return card("Model on trial", tag(...(VERDICTS[rollout.verdict] ?? [rollout.verdict, ""])),
    el("p", { class: "wrap-anywhere", text: `${rollout.candidate} answers ${share(rollout.share)} of those who would get ${rollout.incumbent}: ${counted(rollout.transcripts_candidate, "transcript")} against ${number(rollout.transcripts_incumbent)}.` }),
    [...rollout.reasons, ...rollout.missing].length ? el("ul", {}, [...rollout.reasons, ...rollout.missing].map((text) => el("li", { text }))) : null,
    el("p", { class: "soft small", text: "On the server's machine: tympan rollout promote makes it the default, tympan rollout rollback ends the trial." }));
}
