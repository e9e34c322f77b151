// The timeline: goes back and forth through the steps of what one or several stages show.

import { isStill, make, put, segments } from "./dom.js";
import { legend } from "./stage.js";

/** @typedef {import("./stage.js").Stage} Stage */

const PLAY_MS = 3200; // for all steps, if none is too quick or too slow to be followed
const STEP_MS = [45, 260];

/** Moves stages together. Time is counted in steps, or in the ms in which they came. */
export class Timeline {
  constructor() {
    /** @type {Stage[]} */
    this.stages = [];
    this.byClock = false;
    this.time = 0;
    this.playing = false;
    this.running = false; // more steps may come
    this.tick = 0;
    this.play = make("button", { type: "button", class: "round", onclick: () => (this.playing ? this.stop() : this.start()) });
    this.back = make("button", { type: "button", class: "quiet", "aria-label": "One step back", onclick: () => this.move(-1) }, "‹");
    this.on = make("button", { type: "button", class: "quiet", "aria-label": "One step on", onclick: () => this.move(1) }, "›");
    this.slider = make("input", { type: "range", min: "0", max: "0", step: "1", value: "0", "aria-label": "Step", oninput: () => this._slid() });
    this.words = make("output", { class: "steps" });
    this.legend = make("span");
    const views = { cells: "Cells", picture: "Picture", when: "When", sure: "How sure" };
    this.views = segments("Show", views, "cells", (view) => {
      const chosen = /** @type {import("./stage.js").View} */ (view);
      for (const stage of this.stages) stage.look(chosen);
      this.view = chosen;
      this.legend.replaceChildren();
      put(this.legend, legend(chosen));
    });
    /** @type {import("./stage.js").View} */
    this.view = "cells";
    this.element = make("div", { class: "timeline" },
      make("div", { class: "row tight" }, this.play, this.back, this.slider, this.on),
      make("div", { class: "row spread" }, this.words, this.views.element), this.legend);
    this._paint();
  }

  /**
   * Follow other stages from their beginning.
   * @param {Stage[]} stages
   * @param {boolean} byClock
   */
  follow(stages, byClock = false) {
    this.stages = stages;
    this.byClock = byClock;
    this.time = 0;
    for (const stage of stages) stage.look(this.view);
    this._move();
  }

  /** The end of what there is. */
  get end() {
    return Math.max(0, ...this.stages.map(({ unmasking }) => (unmasking ? (this.byClock ? unmasking.frames[unmasking.last].at : unmasking.last) : 0)));
  }

  /** What is known of the end that will be. */
  get length() {
    return Math.max(1, this.end, ...this.stages.map(({ unmasking }) => (this.byClock ? 0 : unmasking?.planned ?? 0)));
  }

  /** Play from here, or from the beginning if this is the end. */
  start() {
    if (this.time >= this.end && !this.running) this.time = 0;
    this.playing = true;
    let before = performance.now();
    cancelAnimationFrame(this.tick);
    const tick = (/** @type {number} */ now) => {
      const step = Math.min(Math.max(PLAY_MS / this.length, STEP_MS[0]), STEP_MS[1]);
      const speed = this.byClock ? this.length / Math.max(PLAY_MS, Math.min(this.length, 2 * PLAY_MS)) : 1 / step;
      this.time = Math.min(this.time + Math.max(0, now - before) * speed, this.end); // a frame may be stamped before it was asked for
      before = now;
      this._move();
      if (this.time >= this.end && !this.running) this.stop();
      else if (this.playing) this.tick = requestAnimationFrame(tick);
    };
    this.tick = requestAnimationFrame(tick);
    this._paint();
  }

  stop() {
    this.playing = false;
    cancelAnimationFrame(this.tick);
    this._paint();
  }

  /** More steps will come: follow them. */
  begin() {
    this.running = true;
    if (isStill()) this._paint();
    else this.start();
  }

  /** No more steps will come. */
  finish() {
    this.running = false;
    if (!this.playing) this.leap();
  }

  /** Go to the end. */
  leap() {
    this.stop();
    this.time = this.end;
    this._move();
  }

  /** @param {number} steps */
  move(steps) {
    this.stop();
    if (this.byClock) {
      const times = this.stages.flatMap(({ unmasking }) => unmasking?.frames.map((frame) => frame.at) ?? []).sort((a, b) => a - b);
      const next = steps > 0 ? times.find((at) => at > this.time) : times.filter((at) => at < this.time).pop();
      this.time = next ?? (steps > 0 ? this.end : 0);
    } else this.time = Math.min(Math.max(Math.floor(this.time) + steps, 0), this.end);
    this._move();
  }

  _slid() {
    const time = Number(this.slider.value); // to stop paints the slider where it was
    this.stop();
    this.time = Math.min(time, this.end);
    this._move();
  }

  /** @param {Stage} stage */
  _frame({ unmasking }) {
    if (!unmasking || !this.byClock) return Math.floor(this.time);
    let frame = 0;
    while (frame < unmasking.last && unmasking.frames[frame + 1].at <= this.time) frame += 1;
    return frame;
  }

  _move() {
    for (const stage of this.stages) stage.at(this._frame(stage));
    this._paint();
  }

  _paint() {
    this.play.textContent = this.playing ? "❚❚" : "▶";
    this.play.setAttribute("aria-label", this.playing ? "Pause" : "Play");
    this.slider.max = String(Math.ceil(this.length));
    this.slider.value = String(Math.floor(this.time));
    const [first] = this.stages;
    const unmasking = first?.unmasking;
    let words = "";
    if (this.byClock) words = `${(this.time / 1000).toFixed(2)} s of ${(this.end / 1000).toFixed(2)} s`;
    else if (unmasking) {
      const [shown, all] = unmasking.counts(Math.min(Math.floor(this.time), unmasking.last));
      words = `Step ${Math.min(Math.floor(this.time), this.end)} of ${this.length} · ${shown} of ${all} cells revealed`;
    }
    this.words.textContent = words;
    this.slider.setAttribute("aria-valuetext", words);
  }
}
