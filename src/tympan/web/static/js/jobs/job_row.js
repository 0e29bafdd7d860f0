// One job as a row of the table; on a phone as a card.

import { ask, el, fill } from "../dom.js";
import { ago, language, moment, percent } from "../text.js";
import { STATES, isOpen, length, nameOf, share } from "./states.js";

/** Returns `{node, update(job)}`; `acts` are `cancel`, `retry` and `remove`, each of a job. */
export function jobRow(job, acts) {
  const cells = {
    name: el("td", { class: "job-name" }), state: el("td", { class: "job-state" }), length: el("td", { class: "number", data: { label: "Length" } }),
    model: el("td", { data: { label: "Model" } }), language: el("td", { data: { label: "Language" } }), age: el("td", { class: "soft", data: { label: "Added" } }),
    acts: el("td", { class: "job-acts" }),
  };
  const node = el("tr", {}, Object.values(cells));
  let [drawn, now] = ["", job];
  const update = (fresh) => {
    now = fresh;
    node.dataset.state = now.state;
    cells.length.textContent = length(now);
    cells.model.textContent = now.model ?? "default model";
    cells.language.textContent = language(now.language);
    cells.age.textContent = ago(now.created_at);
    cells.age.title = moment(now.created_at);
    showProgress(cells.state, now);
    if (drawn === now.state) return;
    drawn = now.state;
    fill(cells.name, naming(now));
    fill(cells.acts, el("div", { class: "row" }, buttons(now, acts)));
  };
  update(job);
  return { node, update };
}

function naming(job) {
  const name = nameOf(job);
  const fault = job.state !== "cancelled" && job.error;
  return [
    job.state === "succeeded" ? el("a", { class: "clip", href: `#/jobs/${job.id}`, text: name, title: name }) : el("span", { class: "clip", text: name, title: name }),
    job.batch_id && el("a", { class: "small soft clip", href: `#/jobs?batch=${job.batch_id}`, text: "in a batch" }),
    fault && el("p", { class: "note bad small", text: [fault.message, fault.remedy].filter(Boolean).join(" ") }),
  ];
}

function showProgress(cell, job) {
  const [word, kind] = STATES[job.state] ?? [job.state, ""];
  const done = share(job);
  let tag = cell.querySelector(".tag");
  if (!tag) {
    tag = el("span", {});
    fill(cell, tag);
  }
  tag.className = `tag ${kind}`;
  tag.textContent = done === null ? word : `${word} ${percent(done, 0)}`;
  let bar = cell.querySelector("progress");
  if (done === null) bar?.remove();
  else {
    if (!bar) {
      bar = el("progress", { max: 1, "aria-label": `Progress of ${nameOf(job)}` });
      cell.append(bar);
    }
    bar.value = done;
  }
}

function buttons(job, acts) {
  const found = [];
  if (isOpen(job)) found.push(button("Cancel", job, () => cancelled(job, acts)));
  if (["failed", "expired", "cancelled"].includes(job.state)) found.push(button("Retry", job, () => acts.retry(job)));
  if (job.state === "succeeded") found.push(el("a", { class: "button small", href: `#/jobs/${job.id}`, "aria-label": `Read ${nameOf(job)}`, text: "Read" }));
  found.push(button("Delete", job, () => removed(job, acts), "quiet"));
  return found;
}

function button(text, job, act, kind = "") {
  return el("button", { class: `button small ${kind}`, type: "button", "aria-label": `${text} ${nameOf(job)}`, text, on: { click: act } });
}

async function cancelled(job, acts) {
  const sure = job.state === "queued" || (await ask(`Cancel ${nameOf(job)}?`, "The text so far is lost. It can be tried again.", "Cancel it"));
  if (sure) await acts.cancel(job);
}

async function removed(job, acts) {
  const what = "Its audio, text and everything else about it are erased for good.";
  if (await ask(`Delete ${nameOf(job)}?`, what, "Delete it")) await acts.remove(job);
}
