// The microphone: pieces of 16-bit samples as they come, and all of them together as a WAV file.

const WANTED_HZ = 16_000;
const FASTEST_HZ = 48_000;
const MERGE_PIECES = 300;

/** Why the microphone cannot be had, in words for the person in front of it. */
export class MicrophoneError extends Error {}

/** Opens the microphone; `onPiece(samples, peak)` hears it, `onLost()` is called if it is taken away.
 *  Returns `{rateHz, seconds(), close()}`; `close` returns the recording as a WAV file. Throws `MicrophoneError`. */
export async function openMicrophone({ onPiece, onLost }) {
  const stream = await ask();
  let context;
  try {
    const { source, ...made } = connect(stream);
    context = made.context;
    await context.audioWorklet.addModule("/ui/js/transcribe/pcm.js");
    const rateHz = context.sampleRate / Math.ceil(context.sampleRate / FASTEST_HZ);
    const tape = new Tape(rateHz);
    const node = new AudioWorkletNode(context, "pcm", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => { tape.add(data.samples); onPiece(data.samples, data.peak); };
    source.connect(node);
    await context.resume();
    stream.getAudioTracks()[0].addEventListener("ended", onLost);
    const close = async () => {
      node.port.onmessage = null;
      stop(stream);
      await context.close();
      return tape.wav();
    };
    return { rateHz, seconds: () => tape.seconds, close };
  } catch (error) {
    stop(stream);
    context?.close();
    throw new MicrophoneError(`The microphone cannot be listened to: ${error.message}`);
  }
}

async function ask() {
  if (!navigator.mediaDevices?.getUserMedia)
    throw new MicrophoneError("Browsers give the microphone only to pages of this machine or over https. Open this page that way.");
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false } });
  } catch (error) {
    const causes = {
      NotAllowedError: "The browser does not let this page use the microphone. Allow it next to the address bar, and try again.",
      NotFoundError: "There is no microphone. Connect one, and try again.",
      NotReadableError: "Another program is using the microphone. Close it, and try again.",
    };
    throw new MicrophoneError(causes[error.name] ?? `The microphone cannot be opened: ${error.message}`);
  }
}

/** Some browsers cannot bring a microphone to another rate; its own does as well. */
function connect(stream) {
  try {
    const context = new AudioContext({ sampleRate: WANTED_HZ });
    return { context, source: context.createMediaStreamSource(stream) };
  } catch {
    const context = new AudioContext();
    return { context, source: context.createMediaStreamSource(stream) };
  }
}

function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}

/** Keeps samples; the browser may put what is older on the disk. */
class Tape {
  #rateHz; #pieces = []; #blobs = []; #count = 0;

  constructor(rateHz) { this.#rateHz = rateHz; }

  get seconds() { return this.#count / this.#rateHz; }

  add(samples) {
    this.#pieces.push(samples);
    this.#count += samples.length;
    if (this.#pieces.length >= MERGE_PIECES) this.#merge();
  }

  #merge() {
    this.#blobs.push(new Blob(this.#pieces));
    this.#pieces = [];
  }

  wav() {
    this.#merge();
    return new Blob([header(this.#count * 2, this.#rateHz), ...this.#blobs], { type: "audio/wav" });
  }
}

function header(bytes, rateHz) {
  const view = new DataView(new ArrayBuffer(44));
  const text = (at, word) => [...word].forEach((letter, each) => view.setUint8(at + each, letter.codePointAt(0)));
  text(0, "RIFF");
  view.setUint32(4, bytes + 36, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rateHz, true);
  view.setUint32(28, rateHz * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, bytes, true);
  return view.buffer;
}
