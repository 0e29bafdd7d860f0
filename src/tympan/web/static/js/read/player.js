// The audio: one media element behind buttons of our own, and a clock that also runs where there is nothing to play.

import { request } from "../api.js";
import { el, fill, select } from "../dom.js";
import { clock } from "../text.js";

const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2];
const SPEED = "tympan.speed";
const VOLUME = "tympan.volume";
const STEP_S = 5;
const RENEWALS = 3;

const GONE = "The audio has been deleted, so it cannot be played. The transcript can still be read and edited.";
const UNPLAYABLE = "Your browser cannot play this kind of file. The transcript stays readable; you can download the audio and play it elsewhere.";

/** Plays a job's audio. Tells `tick` when the time changed, `state` when it plays, stops, or cannot, and `ready` once it
 *  knows how long the audio is. */
export class Player extends EventTarget {
  #path;
  #renewals = 0;
  #wanted = null;
  #frame = 0;
  #isOver = false;

  constructor(jobId, duration) {
    super();
    this.#path = `/v1/jobs/${encodeURIComponent(jobId)}/audio-link`;
    this.duration = duration;
    this.time = 0;
    this.isPlaying = false;
    this.fault = "";
    this.url = "";
    this.media = el("video", { class: "picture", preload: "metadata", playsinline: true, hidden: true, "aria-label": "Picture of the recording", on: this.#listeners() });
    this.media.volume = Number(localStorage.getItem(VOLUME) ?? 1);
    this.speed = Number(localStorage.getItem(SPEED)) || 1;
  }

  #listeners() {
    return {
      loadedmetadata: () => this.#loaded(),
      error: () => this.#failed(),
      play: () => this.#playing(true),
      pause: () => this.#playing(false),
      ended: () => this.#playing(false),
      seeked: () => this.#tick(),
      timeupdate: () => this.#tick(),
    };
  }

  /** Asks for the audio's address and loads it. Says in `fault` when there is none; never throws. */
  async open() {
    try {
      const { url } = await request("POST", this.#path);
      if (this.#isOver) return;
      this.url = url;
      this.media.src = url;
    } catch (error) {
      if (!this.#isOver) this.#say(error.code === "media_missing" || error.status === 404 ? GONE : `The audio cannot be played: ${error.message}`);
    }
  }

  #loaded() {
    this.media.playbackRate = this.speed;
    this.media.hidden = !this.media.videoWidth;
    if (Number.isFinite(this.media.duration) && this.media.duration > 0) this.duration = this.media.duration;
    this.media.currentTime = this.#wanted?.time ?? this.time;
    if (this.#wanted?.plays) this.play();
    this.#wanted = null;
    this.#say("");
    this.dispatchEvent(new Event("ready"));
  }

  /** An address is good for a while only: a new one goes on where the old one ended. */
  #failed() {
    const { code } = this.media.error ?? {};
    const wasPlayed = this.media.currentTime > 0 || this.time > 0 || code === MediaError.MEDIA_ERR_NETWORK;
    if (this.#isOver || !this.media.currentSrc) return;
    if (wasPlayed && this.#renewals < RENEWALS) {
      this.#renewals++;
      this.#wanted = { time: this.time, plays: this.isPlaying };
      this.open();
      return;
    }
    this.isPlaying = false;
    this.#say(UNPLAYABLE);
  }

  #say(fault) {
    this.fault = fault;
    this.dispatchEvent(new Event("state"));
  }

  #playing(is) {
    if (this.#isOver) return;
    this.isPlaying = is;
    cancelAnimationFrame(this.#frame);
    const turn = () => { this.#tick(); if (this.isPlaying) this.#frame = requestAnimationFrame(turn); };
    if (is) turn();
    else this.#tick();
    this.dispatchEvent(new Event("state"));
  }

  #tick() {
    if (this.#wanted || this.media.readyState === 0) return;
    if (this.time === this.media.currentTime) return;
    this.time = this.media.currentTime;
    this.#renewals = this.isPlaying && this.time > 1 ? 0 : this.#renewals;
    this.dispatchEvent(new Event("tick"));
  }

  get canPlay() { return !this.fault && Boolean(this.url); }

  play() {
    if (this.canPlay) this.media.play().catch(() => {}); // A browser that refuses tells `error` or stays paused.
  }

  pause() { this.media.pause(); }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.play();
  }

  /** Goes to a time in seconds; tells it at once. */
  seek(time) {
    this.time = Math.min(Math.max(0, time), this.duration || time);
    if (this.media.readyState > 0) this.media.currentTime = this.time;
    else if (this.#wanted) this.#wanted.time = this.time;
    this.dispatchEvent(new CustomEvent("tick", { detail: { isJump: true } }));
  }

  skip(by) { this.seek(this.time + by); }

  setSpeed(speed) {
    this.speed = speed;
    this.media.playbackRate = speed;
    localStorage.setItem(SPEED, speed);
    this.dispatchEvent(new Event("state"));
  }

  /** Takes the next speed in a direction, 1 or -1. */
  shiftSpeed(by) {
    const at = SPEEDS.findIndex((speed) => speed >= this.speed);
    this.setSpeed(SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, at + by))]);
  }

  setVolume(volume) {
    this.media.volume = volume;
    localStorage.setItem(VOLUME, volume);
  }

  close() {
    this.#isOver = true;
    this.pause();
    cancelAnimationFrame(this.#frame);
    this.media.removeAttribute("src");
    this.media.load();
  }
}

/** Returns the row of buttons of a player. `shown` turns seconds into what is read, `extra` are more controls. */
export function controls(player, shown, extra = []) {
  const button = (text, label, click, more = {}) =>
    el("button", { class: "button small", type: "button", text, "aria-label": label, title: label, on: { click }, ...more });
  const play = button("▶", "Play (Space or K)", () => player.toggle(), { class: "button main small play" });
  const back = button("−5", "Back 5 seconds (J)", () => player.skip(-STEP_S), { class: "button small number" });
  const on = button("+5", "Forward 5 seconds (L)", () => player.skip(STEP_S), { class: "button small number" });
  const time = el("output", { class: "time number", "aria-live": "off", "aria-label": "Time" });
  const speed = select(SPEEDS.map((one) => [String(one), `${one}×`]), String(player.speed),
    { class: "speed", "aria-label": "Speed", on: { change: () => player.setSpeed(Number(speed.value)) } });
  const volume = el("input", { class: "volume", type: "range", min: 0, max: 1, step: 0.05, value: player.media.volume, "aria-label": "Volume",
    on: { input: () => player.setVolume(Number(volume.value)) } });
  const fault = el("p", { class: "note warn small", role: "status", hidden: true });
  const tell = () => fill(time, shown(player.time), el("span", { class: "soft", text: ` / ${clock(player.duration)}` }));
  const state = () => {
    play.textContent = player.isPlaying ? "❚❚" : "▶";
    play.setAttribute("aria-label", player.isPlaying ? "Pause (Space or K)" : "Play (Space or K)");
    for (const one of [play, speed, volume]) one.disabled = Boolean(player.fault);
    speed.value = String(player.speed);
    fault.hidden = !player.fault;
    fill(fault, player.fault, player.fault === UNPLAYABLE && player.url && el("a", { href: player.url, download: "", text: " Download the audio" }));
    tell();
  };
  let said = "";
  player.addEventListener("tick", () => { if (said !== (said = shown(player.time))) tell(); });
  player.addEventListener("state", state);
  player.addEventListener("ready", tell);
  state();
  return el("div", { class: "stack tight" }, fault, el("div", { class: "row controls", role: "group", "aria-label": "Player" },
    back, play, on, time, speed, volume, extra));
}
