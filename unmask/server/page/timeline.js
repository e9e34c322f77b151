// The timeline: goes back and forth through the steps of what one or several stages show.

import { isStill, make, put, quiet, segments } from "./dom.js";
import { legend } from "./stage.js";

const PLAY_MS = 3200; // for all steps, if none is too quick or too slow to be followed
const STEP_MS = [45, 260];

/** Play, one back, one on, a slider, and words about where it is. */
export class Controls {
	/** @param {string} what is gone through: "Step", "Frame" @param {() => void} onPlay @param {(by: number) => void} onMove @param {(to: number) => void} onSlide */
	constructor(what, onPlay, onMove, onSlide) {
		const one = `One ${what.toLowerCase()}`;
		this.play = make("button", { class: "round", onclick: onPlay });
		this.slider = make("input", { type: "range", min: "0", max: "0", step: "1", value: "0", "aria-label": what, oninput: () => onSlide(Number(this.slider.value)) });
		this.words = make("output", "steps");
		this.row = make("div", "row tight", this.play, quiet("‹", () => onMove(-1), `${one} back`), this.slider, quiet("›", () => onMove(1), `${one} on`));
	}

	/** @param {boolean} playing @param {number} at @param {number} end @param {string} words */
	tell(playing, at, end, words) {
		this.play.textContent = playing ? "❚❚" : "▶";
		this.play.setAttribute("aria-label", playing ? "Pause" : "Play");
		this.slider.max = String(end);
		this.slider.value = String(at);
		this.slider.setAttribute("aria-valuetext", words);
		this.words.textContent = words;
	}
}

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
		this.controls = new Controls("Step", () => (this.playing ? this.stop() : this.start()), (by) => this.move(by), (to) => this._slid(to));
		this.legend = make("span");
		const views = { cells: "Cells", picture: "Picture", when: "When", sure: "How sure" };
		this.views = segments("Show", views, "cells", (view) => {
			const chosen = /** @type {View} */ (view);
			for (const stage of this.stages) stage.look(chosen);
			this.view = chosen;
			this.legend.replaceChildren();
			put(this.legend, legend(chosen));
		});
		/** @type {View} */
		this.view = "cells";
		this.element = make("div", "timeline",
			this.controls.row, make("div", "row spread", this.controls.words, this.views.element), this.legend);
		this._paint();
	}

	/** Follow other stages from their beginning. @param {Stage[]} stages @param {boolean} byClock */
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

	/** @param {number} time */
	_slid(time) {
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
		const [first] = this.stages;
		const unmasking = first?.unmasking;
		let words = "";
		if (this.byClock) words = `${(this.time / 1000).toFixed(2)} s of ${(this.end / 1000).toFixed(2)} s`;
		else if (unmasking && (unmasking.last || !unmasking.finished)) {
			const [shown, all] = unmasking.counts(Math.min(Math.floor(this.time), unmasking.last));
			words = `Step ${Math.min(Math.floor(this.time), this.end)} of ${this.length} · ${shown} of ${all} cells revealed`;
		}
		this.controls.tell(this.playing, Math.floor(this.time), Math.ceil(this.length), words);
	}
}
