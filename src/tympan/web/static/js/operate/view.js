// The view `operate`: how the server is now, its models, the quality of its transcripts, and how many machines it takes.

import { el, fill } from "../dom.js";
import { show as showCapacity } from "./capacity.js";
import { headline } from "./health.js";
import { show as showModels } from "./models.js";
import { healthNow, show as showNow } from "./now.js";
import { tabs } from "./parts.js";
import { poll } from "./poll.js";
import { show as showQuality } from "./quality.js";

const TABS = [["now", "Now", showNow], ["models", "Models", showModels], ["quality", "Quality", showQuality], ["capacity", "Capacity", showCapacity]];
const HEALTH_MS = 15_000;

/** Shows the part that the address names (`#/operate/quality`) and returns what ends it. */
export function show(root, { rest }) {
  const [name, , part] = TABS.find(([each]) => each === rest[0]) ?? TABS[0];
  const [head, body] = [el("p", { class: "row wrap headline", role: "status" }, el("span", { class: "soft", text: "Loading…" })), el("div", { class: "stack" })];
  fill(root, el("div", { class: "stack operate" },
    el("div", { class: "stack tight" }, el("h1", { text: "Operate" }), head), tabs("operate", TABS, name, "Operate"), body));
  let said = "";
  const onHealth = (health) => {
    const told = JSON.stringify([health.status, health.model, health.version, Math.round((health.memory_used_mb ?? 0) / 10)]);
    // What has not changed is not said again to those who listen.
    if (told !== said) fill(head, headline(health));
    said = told;
  };
  // The first part asks for itself, more often.
  const end = name === "now" ? () => {} : poll(HEALTH_MS, async (signal) => onHealth(await healthNow(signal)), () => onHealth({ status: "unreachable" }));
  const leave = part(body, onHealth);
  return () => { end(); leave(); };
}
