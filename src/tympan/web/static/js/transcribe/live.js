// Text while somebody speaks: samples go to /v1/stream, what is heard comes back.

import { call, socket } from "../api.js";

const MOST_WAITING_BYTES = 4 << 20;
const END_MS = 20_000;

/** Opens a live session. `onText({finals, stable, tail})` is called as text comes, `onError(message)` once when it breaks.
 *  Returns `{send(samples), finish()}`; `finish` resolves when the last text has come, or none will. */
export function openLive({ options, rateHz, onText, onError }) {
  const query = { sample_rate: rateHz, language: options.language, model: options.model, prompt: options.prompt, hotwords: options.hotwords };
  // A name of ours has to be offered beside the key: a browser hangs up unless the server takes one of those offered.
  const line = socket("/v1/stream", query, ["tympan"]);
  const heard = { finals: [], stable: "", tail: "" };
  const waiting = [];
  let [ready, broken, over] = [false, false, () => {}];
  const ended = new Promise((resolve) => { over = resolve; });
  line.binaryType = "arraybuffer";
  line.onopen = () => {
    ready = true;
    for (const samples of waiting.splice(0)) line.send(samples);
  };
  line.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "error") fail(message.error.message);
    else if (message.type === "ended") over();
    else if (take(heard, message)) onText(heard);
  };
  line.onclose = async ({ code }) => {
    over();
    if (code !== 1000) fail(ready ? "The connection for live text broke." : await whyRefused());
  };
  function fail(message) {
    if (!broken) onError(message);
    broken = true;
  }
  const send = (samples) => {
    if (broken || line.readyState > WebSocket.OPEN) return;
    if (line.bufferedAmount > MOST_WAITING_BYTES) {
      fail("The connection is too slow for live text.");
      line.close();
    } else if (ready) line.send(samples);
    else if (waiting.length < 600) waiting.push(samples);
  };
  const finish = async () => {
    if (line.readyState === WebSocket.OPEN) line.send('{"type": "finish"}');
    else {
      broken = true;
      line.close();
    }
    const timer = setTimeout(over, END_MS);
    await ended;
    clearTimeout(timer);
    line.close();
    return heard.finals.map((one) => one.text).join(" ").trim();
  };
  return { send, finish };
}

/** Notes a message; returns whether there is other text to show. */
function take(heard, message) {
  if (message.type === "partial") [heard.stable, heard.tail] = [message.stable, message.tail];
  else if (message.type === "final") {
    if (message.text) heard.finals.push({ text: message.text, start: message.start });
    [heard.stable, heard.tail] = ["", ""];
  } else if (message.type === "lost") [heard.stable, heard.tail] = ["", ""];
  else return false;
  return true;
}

/** A browser does not tell why a WebSocket was refused; the same address without one does. */
async function whyRefused() {
  try {
    await call("GET", "/v1/stream");
  } catch (error) {
    if (error.status !== 426) return error.message;
  }
  return "The server refuses live text with these options.";
}
