// The mask: what is painted with brush and lasso, and undone.

import { blank, context } from "./dom.js";

const MOST_UNDO = 40;
const MOST_PX = 1024; // along a side: a finer mask of a huge picture could not be painted without waiting

/** Where a picture may change; painted places are opaque. */
export class Mask {
	/** @param {number} width @param {number} height @param {number} [most] px along a side of what is painted */
	constructor(width, height, most = MOST_PX) {
		const scale = Math.min(1, most / Math.max(width, height));
		this.width = width;
		this.height = height;
		this.canvas = blank(Math.ceil(width * scale), Math.ceil(height * scale));
		this.pen = context(this.canvas, true);
		this.pen.scale(scale, scale);
		/** @type {ImageData[]} */
		this.before = [];
		/** @type {ImageData[]} */
		this.undone = [];
	}

	/** Whether nothing is painted. */
	get isEmpty() {
		const { data } = this._state();
		for (let i = 3; i < data.length; i += 4) if (data[i]) return false;
		return true;
	}

	_state() {
		return this.pen.getImageData(0, 0, this.canvas.width, this.canvas.height);
	}

	/** Remember how it is, so that what comes can be undone. */
	mark() {
		this.before.push(this._state());
		if (this.before.length > MOST_UNDO) this.before.shift();
		this.undone = [];
	}

	undo() {
		this._swap(this.before, this.undone);
	}

	redo() {
		this._swap(this.undone, this.before);
	}

	/** @param {ImageData[]} from @param {ImageData[]} to */
	_swap(from, to) {
		const state = from.pop();
		if (!state) return;
		to.push(this._state());
		this.pen.putImageData(state, 0, 0);
	}

	clear() {
		this.mark();
		this.pen.clearRect(0, 0, this.width, this.height);
	}

	invert() {
		this.mark();
		this.pen.globalCompositeOperation = "xor";
		this.pen.fillStyle = "#ffffff";
		this.pen.fillRect(0, 0, this.width, this.height);
		this.pen.globalCompositeOperation = "source-over";
		this._harden();
	}

	/** A stroke of the brush between two points. @param {Point} from @param {Point} to @param {number} size in px @param {boolean} erases */
	stroke(from, to, size, erases) {
		const { pen } = this;
		pen.globalCompositeOperation = erases ? "destination-out" : "source-over";
		pen.strokeStyle = "#ffffff";
		pen.lineWidth = Math.max(1, size);
		pen.lineCap = "round";
		pen.beginPath();
		pen.moveTo(from.x, from.y);
		pen.lineTo(to.x + 0.01, to.y);
		pen.stroke();
		pen.globalCompositeOperation = "source-over";
	}

	/** Fill what a line goes around. @param {Point[]} points */
	fill(points) {
		const { pen } = this;
		pen.fillStyle = "#ffffff";
		pen.beginPath();
		for (const { x, y } of points) pen.lineTo(x, y);
		pen.closePath();
		pen.fill();
		this._harden();
	}

	/** Select a square. @param {number} x @param {number} y @param {number} size */
	box(x, y, size) {
		this.pen.fillStyle = "#ffffff";
		this.pen.fillRect(x, y, size, size);
	}

	/** No half-painted pixels: the server takes each for masked or not. */
	_harden() {
		const state = this._state();
		for (let i = 3; i < state.data.length; i += 4) state.data[i] = state.data[i] >= 128 ? 255 : 0;
		this.pen.putImageData(state, 0, 0);
	}

	/** White where the picture may change, black elsewhere. */
	drawn() {
		this._harden();
		const canvas = blank(this.width, this.height), pen = context(canvas);
		pen.imageSmoothingEnabled = false;
		pen.fillStyle = "#000000";
		pen.fillRect(0, 0, canvas.width, canvas.height);
		pen.drawImage(this.canvas, 0, 0, this.width, this.height);
		return canvas;
	}
}
