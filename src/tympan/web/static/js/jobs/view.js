// Jobs: what was handed in and what became of it, alone and in batches, and the webhooks that tell of it.

import { el, fill } from "../dom.js";
import { batchList } from "./batches.js";
import { jobList } from "./list.js";
import { webhooks } from "./webhooks.js";

const PARTS = [["", "Jobs", jobList], ["batches", "Batches", batchList], ["webhooks", "Webhooks", webhooks]];

/** Shows the view in `root`: `#/jobs?show=batches`, `#/jobs?state=failed&batch=batch_1`. Returns what is called when it is left. */
export function show(root, { query }) {
  const [wanted, , make] = PARTS.find(([name]) => name === (query.get("show") ?? "")) ?? PARTS[0];
  const tabs = PARTS.map(([name, title]) =>
    el("a", { href: name ? `#/jobs?show=${name}` : "#/jobs", "aria-current": name === wanted ? "page" : null, text: title }));
  const place = el("div", { class: "stack" });
  root.append(el("div", { class: "stack jobs" },
    el("div", { class: "row apart wrap head" }, el("h1", { text: "Jobs" }), el("nav", { class: "tabs", "aria-label": "Jobs" }, tabs)), place));
  const part = make(query);
  fill(place, part.node);
  return part.stop;
}
