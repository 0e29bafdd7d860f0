// What was changed: the words that went and came, segment by segment.

import { el, fill } from "../dom.js";
import { changes } from "./diff.js";
import { nameOf } from "./model.js";
import { isUnspaced, lastBefore } from "./words.js";

/** Returns what differs from the original, in order of time: `{kind: "text" | "gone", index, segment, runs, speaker}`. */
export function differences(manuscript) {
  const { doc, original } = manuscript;
  const found = [];
  doc.segments.forEach((segment, index) => {
    if (segment.spoken) return;
    const { words, old, isChanged } = manuscript.about(segment);
    const before = original.segments[Math.max(0, lastBefore(original.segments, (segment.start + segment.end) / 2))]?.speaker ?? null;
    const speaker = before !== segment.speaker ? { before, after: segment.speaker } : null;
    if (isChanged || speaker) found.push({ kind: "text", index, segment, parts: parts(old, words), speaker, isChanged });
  });
  for (const segment of original.segments) if (!covered(doc.segments, segment)) found.push({ kind: "gone", index: -1, segment, parts: [["del", segment.text]], speaker: null });
  return found.sort((one, two) => one.segment.start - two.segment.start);
}

function covered(segments, { start, end }) {
  const near = segments[lastBefore(segments, (start + end) / 2)];
  return Boolean(near) && near.end >= (start + end) / 2;
}

const joined = (words) => words.map(({ text }, at) => (at && isUnspaced(text) && isUnspaced(words[at - 1].text) ? text : ` ${text}`)).join("").trim();

/** Returns the text as a list of `["same" | "del" | "ins", text]`. */
function parts(old, now) {
  const found = [];
  let at = 0;
  for (const { a, b, c, d } of changes(old.map(({ text }) => text), now.map(({ text }) => text))) {
    found.push(["same", joined(now.slice(at, c))], ["del", joined(old.slice(a, b))], ["ins", joined(now.slice(c, d))]);
    at = d;
  }
  found.push(["same", joined(now.slice(at))]);
  return found.filter(([, text]) => text);
}

/** Shows all changes in `node`. `desk` is what `reader.js` makes, `go(index)` shows a segment. */
export function showChanges(node, desk, go) {
  const { manuscript } = desk;
  const found = differences(manuscript);
  const names = Object.entries(manuscript.doc.speakers);
  fill(node,
    el("p", { class: "soft small", text: summary(found, names) }),
    names.length > 0 && el("p", { class: "small" }, "Names: ", names.map(([label, name], at) => [at ? ", " : "", el("del", { text: label }), " ", el("ins", { text: name })])),
    el("ol", { class: "changed" }, found.map((one) => change(one, desk, go))));
}

function summary(found, names) {
  if (!found.length && !names.length) return "Nothing differs from the original yet. Choose Edited, and press E or double-click a text to correct it.";
  const gone = found.filter(({ kind }) => kind === "gone").length;
  const texts = found.length - gone;
  return `${texts} ${texts === 1 ? "segment" : "segments"} changed, ${gone} removed, ${names.length} ${names.length === 1 ? "speaker" : "speakers"} named.`;
}

function change({ kind, index, segment, parts: shown, speaker, isChanged }, desk, go) {
  const { manuscript } = desk;
  const takeBack = () => { manuscript.setText(index, joined(manuscript.about(segment).old)); };
  return el("li", {},
    el("button", { class: "seg-time number", type: "button", text: desk.shown(segment.start), "aria-label": `Go to ${desk.shown(segment.start)}`,
      on: { click: () => { desk.player.seek(segment.start); if (index >= 0) go(index); } } }),
    el("div", { class: "seg-body" },
      speaker && el("p", { class: "small" }, el("del", { text: label(speaker.before, manuscript.original) }), " ", el("ins", { text: label(speaker.after, manuscript.doc) })),
      el("p", { dir: "auto" }, shown.map(([sort, text], at) => [at ? " " : "", sort === "same" ? text : el(sort, { text })])),
      kind === "gone" && el("p", { class: "small soft", text: "This segment was removed." }),
      kind === "text" && isChanged && el("button", { class: "button quiet small", type: "button", text: "Undo this", title: "Restore the original words here", on: { click: takeBack } })));
}

const label = (speaker, doc) => (speaker ? nameOf(speaker, doc) : "no speaker");
