// The view `admin`: keys, tenants with their limits, and what was used.
// Rate of requests: one for each thing that is opened or changed; nothing is asked again by itself.

import { el, fill } from "../dom.js";
import { tabs } from "../operate/parts.js";
import { show as showKeys } from "./keys.js";
import { show as showTenants } from "./tenants.js";
import { show as showUsage } from "./usage.js";

const TABS = [["keys", "Keys", showKeys], ["tenants", "Tenants", showTenants], ["usage", "Usage", showUsage]];

/** Shows the part that the address names (`#/admin/usage`) and returns what ends it. */
export function show(root, { rest }) {
  const [name, , part] = TABS.find(([each]) => each === rest[0]) ?? TABS[0];
  const body = el("div", { class: "stack" });
  const over = new AbortController();
  fill(root, el("div", { class: "stack admin" },
    el("div", { class: "stack tight" }, el("h1", { text: "Admin" }), el("p", { class: "soft", text: "Who may use the server, how much, and what they used." })),
    tabs("admin", TABS, name, "Admin"), body));
  part(body, over.signal);
  return () => over.abort();
}
