// Recording the microphone, with the text as it is spoken. What was recorded becomes a file like any other.

import { el, fill, notice } from "../dom.js";
import { clock } from "../text.js";
import { openLive } from "./live.js";
import { openMicrophone } from "./microphone.js";

const LONGEST_S = 4 * 3600;

/** Returns `{node, start(options), leave(), isOpen()}`; `onFile(file, options)` gets each recording, also that which goes
 *  on when the view is left. */
export function recorder(onFile) {
  const parts = {
    time: el("span", { class: "number time", text: "0:00" }),
    level: el("meter", { min: 0, max: 1, low: 0.02, "aria-label": "How loud it is" }),
    note: el("p", { class: "note warn", hidden: true }),
    text: el("div", { class: "live-text", role: "log", "aria-label": "Text as it is spoken", tabindex: 0 }),
  };
  const node = el("section", { class: "card live", "aria-label": "Recording", hidden: true });
  let [now, left] = [null, false];

  const start = async (options) => {
    if (now) return;
    now = { options };
    parts.note.hidden = true;
    showText(parts.text, { finals: [], stable: "", tail: "" });
    try {
      await open(now, parts, () => stop());
      if (left) return void stop({ keep: false });
      fill(node, layout(parts, () => stop(), () => stop({ keep: false })));
      node.hidden = false;
      node.querySelector("button").focus();
    } catch (error) {
      now = null;
      notice(error.message, "bad");
    }
  };

  const stop = async ({ keep = true } = {}) => {
    const mine = now;
    if (!mine?.microphone || mine.closing) return;
    mine.closing = true;
    node.querySelectorAll("button").forEach((button) => { button.disabled = true; });
    node.querySelector(".main")?.replaceChildren("Finishing…");
    node.querySelector(".dot")?.remove();
    const wav = await mine.microphone.close();
    if (keep) onFile(new File([wav], nameNow(), { type: "audio/wav" }), mine.options);
    await mine.live.finish();
    node.hidden = true;
    now = null;
  };
  const leave = () => {
    left = true;
    return stop();
  };
  return { node, start, leave, isOpen: () => now !== null };
}

async function open(mine, parts, end) {
  const onPiece = (samples, peak) => {
    mine.live?.send(samples);
    parts.level.value = Math.min(1, Math.sqrt(peak));
    parts.time.textContent = clock(mine.microphone.seconds());
    if (mine.microphone.seconds() >= LONGEST_S) end();
  };
  mine.microphone = await openMicrophone({ onPiece: (...heard) => mine.microphone && onPiece(...heard), onLost: end });
  const say = (message) => {
    parts.note.hidden = false;
    parts.note.textContent = `${message} The recording goes on, and is transcribed when you stop.`;
  };
  mine.live = openLive({ options: mine.options, rateHz: mine.microphone.rateHz, onText: (heard) => showText(parts.text, heard), onError: say });
}

function layout(parts, onStop, onDrop) {
  return el("div", { class: "stack" },
    el("div", { class: "row wrap" },
      el("button", { class: "button main", type: "button", text: "Stop and transcribe", on: { click: onStop } }),
      el("span", { class: "dot", "aria-hidden": "true" }), parts.time, parts.level,
      el("button", { class: "button quiet", type: "button", text: "Discard", on: { click: onDrop } })),
    parts.note, parts.text);
}

function showText(place, { finals, stable, tail }) {
  const atEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 40;
  const known = place.querySelectorAll("p.final").length;
  if (!finals.length || known > finals.length) fill(place);
  for (const final of finals.slice(place.querySelectorAll("p.final").length))
    place.append(el("p", { class: "final" }, el("span", { class: "soft small number", text: clock(final.start) }), " ", final.text));
  place.querySelector("p.partial")?.remove();
  if (stable || tail) place.append(el("p", { class: "partial", "aria-live": "off" }, stable, " ", el("span", { class: "tail", text: tail })));
  if (!place.childElementCount) place.append(el("p", { class: "partial soft", text: "Listening: speak, and the text appears here." }));
  if (atEnd) place.scrollTop = place.scrollHeight;
}

function nameNow() {
  const date = new Date();
  const two = (number) => String(number).padStart(2, "0");
  return `Recording ${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}.${two(date.getMinutes())}.${two(date.getSeconds())}.wav`;
}
