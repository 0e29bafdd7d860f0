// The keys of the page, in one table: what is done and what the help says.

import { dialog, el } from "../dom.js";

const WRITES = "input:not([type=checkbox], [type=range]), textarea, select, [contenteditable]";

/** `act` are the deeds of `reader.js`, by name. Returns a list of `{keys, does, hear(event), act}`. */
function table(act) {
  const plain = (...names) => (event) => !event.ctrlKey && !event.metaKey && !event.altKey && names.includes(event.key.length === 1 ? event.key.toLowerCase() : event.key);
  const control = (name, isShifted = false) => (event) => (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === name && event.shiftKey === isShifted;
  const alt = (code) => (event) => event.altKey && !event.ctrlKey && event.code === code;
  return [
    { keys: ["Space", "K"], does: "Play or pause", hear: plain(" ", "k"), act: act.toggle },
    { keys: ["J", "L"], does: "5 seconds back or forward", hear: plain("j"), act: () => act.skip(-5) },
    { hear: plain("l"), act: () => act.skip(5) },
    { keys: ["←", "→"], does: "One word back or forward", hear: plain("ArrowLeft"), act: () => act.word(-1) },
    { hear: plain("ArrowRight"), act: () => act.word(1) },
    { keys: ["↑", "↓"], does: "Segment above or below", hear: plain("ArrowUp"), act: () => act.move(-1) },
    { hear: plain("ArrowDown"), act: () => act.move(1) },
    { keys: ["Enter"], does: "Play from the segment", hear: plain("Enter"), act: act.playHere },
    { keys: ["E"], does: "Change the segment's text", hear: plain("e"), act: act.edit },
    { keys: ["M"], does: "Join with the segment below", hear: plain("m"), act: act.merge },
    { keys: ["C"], does: "Copy the segment with its time code", hear: plain("c"), act: act.copy },
    { keys: ["1", "…", "9"], does: "Speaker of the segment", hear: plain(..."123456789"), act: (event) => act.speaker(Number(event.key) - 1) },
    { keys: ["N", "Shift+N"], does: "Next or previous place the model was unsure of", hear: plain("n"), act: (event) => act.doubt(event.shiftKey ? -1 : 1) },
    { keys: ["/"], does: "Search", hear: (event) => plain("/")(event) || control("f", true)(event), act: act.search },
    { keys: ["[", "]"], does: "Slower or faster", hear: plain("["), act: () => act.speed(-1) },
    { hear: plain("]"), act: () => act.speed(1) },
    { keys: ["F"], does: "Back to what is playing", hear: plain("f"), act: act.follow },
    { keys: ["Ctrl+Z"], does: "Undo", hear: control("z"), act: act.undo },
    { keys: ["Ctrl+Shift+Z", "Ctrl+Y"], does: "Redo", hear: (event) => control("z", true)(event) || control("y")(event), act: act.redo },
    { keys: ["Ctrl+S"], does: "Save now (it is saved as you go)", hear: control("s"), act: act.save, everywhere: true },
    { keys: ["Alt+K", "Alt+J", "Alt+L"], does: "Play, back, forward while you write", hear: alt("KeyK"), act: act.toggle, everywhere: true },
    { hear: alt("KeyJ"), act: () => act.skip(-5), everywhere: true },
    { hear: alt("KeyL"), act: () => act.skip(5), everywhere: true },
    { keys: ["?"], does: "This help", hear: plain("?"), act: act.help },
  ];
}

const WRITING = [[["Enter"], "Save the text"], [["Ctrl+Enter"], "Split the segment at the cursor"], [["Backspace"], "At the beginning: join with the segment above"],
  [["Delete"], "At the end: join with the segment below"], [["Alt+↑", "Alt+↓"], "Save, and go on with the segment above or below"], [["Escape"], "Leave the text as it was"]];

/** Listens to the keys until the returned function is called. */
export function listen(act) {
  const keys = table({ ...act, help: () => showHelp(act) });
  const hear = (event) => {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const isWriting = event.target.matches?.(WRITES);
    // A button is pressed by the same keys; it has them.
    if (event.target.closest?.("button, a, summary, [type=checkbox]") && [" ", "Enter"].includes(event.key)) return;
    const found = keys.find((one) => (one.everywhere || !isWriting) && one.hear(event));
    if (!found) return;
    event.preventDefault();
    found.act(event);
  };
  window.addEventListener("keydown", hear);
  return () => window.removeEventListener("keydown", hear);
}

/** Shows all keys. */
export function showHelp(act) {
  const rows = table(act).filter(({ does }) => does).map(({ keys, does }) => [keys, does]);
  const list = (entries) => el("dl", { class: "keys" }, entries.map(([keys, does]) => [el("dt", {}, keys.map((key) => [el("kbd", { text: key }), " "])), el("dd", { text: does })]));
  const box = dialog("Keyboard shortcuts", list(rows), el("h3", { text: "While you edit a text" }), list(WRITING),
    el("button", { class: "button", type: "button", text: "Close", on: { click: () => box.close() } }));
}
