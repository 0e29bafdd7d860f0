// Runs beside the page's other scripts, where the sound is: samples become 16-bit pieces of a tenth of a second.

/* global AudioWorkletProcessor, registerProcessor, sampleRate */

class Pcm extends AudioWorkletProcessor {
  constructor() {
    super();
    // What is faster than the server takes is thinned out, each sample the mean of those it stands for.
    this.step = Math.ceil(sampleRate / 48_000);
    this.piece = new Int16Array(Math.round(sampleRate / this.step / 10));
    this.filled = 0;
    this.peak = 0;
  }

  process([[channel]]) {
    if (!channel) return true;
    for (let at = 0; at + this.step <= channel.length; at += this.step) {
      let sum = 0;
      for (let each = 0; each < this.step; each += 1) sum += channel[at + each];
      this.take(sum / this.step);
    }
    return true;
  }

  take(value) {
    this.peak = Math.max(this.peak, Math.abs(value));
    this.piece[this.filled] = Math.max(-32768, Math.min(32767, Math.round(value * 32767)));
    this.filled += 1;
    if (this.filled < this.piece.length) return;
    const samples = this.piece.slice();
    this.port.postMessage({ samples, peak: this.peak }, [samples.buffer]);
    this.filled = 0;
    this.peak = 0;
  }
}

registerProcessor("pcm", Pcm);
