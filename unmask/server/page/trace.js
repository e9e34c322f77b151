// How an image came about: the state of its cells after every step, and the pictures there were of it on the way.

import { bytes } from "./api.js";
import { blank } from "./dom.js";

export const FIXED = "#", MASKED = ".", KEPT = "=", REVEALED = "+", TAKEN_BACK = "-";

/** How many pixels a cell of a model has along a side, in a picture of that size if it is given; 0: not known yet. @param {Values} card @param {number[]} [size] */
export function cellOf(card, size) {
	if (!card.size || !card.grid) return 0;
	const own = card.size.split("x").map(Number), small = size && (size[0] < own[0] || size[1] < own[1]);
	const drawn = small ? Number(card.sizes.at(-1).split("x")[0]) : own[0];
	return drawn / card.grid[card.grid.length - 1];
}

/** What a model draws, as it is before the first step; null: not known yet. @param {Values} card */
export function blankOf(card) {
	const cell = cellOf(card);
	if (!cell) return null;
	const [width, height] = card.size.split("x").map(Number);
	return new Unmasking(width, height, cell);
}

/** A picture of which nothing is known but that it is there. @param {ImageBitmap} picture @param {Values} card */
export function stillOf(picture, card) {
	const made = new Unmasking(picture.width, picture.height, cellOf(card, [picture.width, picture.height]) || picture.width, blank(1, 1));
	made.finish(picture);
	return made;
}

/** The states of one image. Frame 0 is before the first step. */
export class Unmasking {
	/**
	 * @param {number} width of the image in pixels
	 * @param {number} height
	 * @param {number} cell pixels along a side of a cell
	 * @param {Picture | null} [base] the picture that is drawn over, if any, and where it lies in the image
	 * @param {Point} [corner]
	 */
	constructor(width, height, cell, base = null, corner = { x: 0, y: 0 }) {
		this.width = width;
		this.height = height;
		this.cell = cell;
		this.base = base;
		this.corner = corner;
		this.columns = Math.ceil(width / cell);
		this.rows = Math.ceil(height / cell);
		const cells = this.columns * this.rows;
		/** @type {Frame[]} */
		this.frames = [{ signs: Array(cells).fill(base ? FIXED : MASKED), sure: new Uint8Array(cells), at: 0, passes: 0 }];
		/** @type {{frame: number, picture: Picture}[]} in the order of frames */
		this.pictures = [];
		this.planned = 0; // steps
		this.finished = false;
		this.windows = 1;
	}

	/** The last frame there is. */
	get last() {
		return this.frames.length - 1;
	}

	/** What all steps cost together, in full passes of the model. */
	get passes() {
		return this.frames.reduce((sum, frame) => sum + frame.passes, 0);
	}

	/** Take a trace event. @param {any} event @param {number} at ms since the request was sent */
	add(event, at) {
		const before = this.frames[this.last];
		const signs = before.signs.map((sign) => (sign === REVEALED ? KEPT : sign === TAKEN_BACK ? MASKED : sign));
		const sure = before.sure.slice();
		const levels = bytes(event.sure);
		const [rows, columns] = event.grid.slice(-2);
		for (let i = 0; i < rows * columns; i += 1) {
			const row = event.corner[0] + Math.floor(i / columns), column = event.corner[1] + (i % columns);
			const sign = event.cells[i];
			if (row >= this.rows || column >= this.columns || sign === FIXED) continue;
			const place = row * this.columns + column;
			signs[place] = sign;
			sure[place] = levels[i];
			if (event.step === 1) this.frames[0].signs[place] = sign === KEPT || sign === TAKEN_BACK ? KEPT : MASKED;
		}
		this.windows = event.windows;
		this.planned = event.steps * event.windows;
		this.frames.push({ signs, sure, at, passes: event.passes });
	}

	/** Take a picture of how it looks so far. Previews of one window among several are no picture of the whole. @param {Picture} picture @param {number} step how many were done */
	show(picture, step) {
		if (this.windows > 1) return;
		this.pictures.push({ frame: step, picture });
		this.pictures.sort((one, other) => one.frame - other.frame);
	}

	/** The image is done. @param {Picture} picture */
	finish(picture) {
		this.pictures.push({ frame: this.last, picture });
		this.finished = true;
	}

	/** The finished picture, if it is. */
	get picture() {
		return this.finished ? this.pictures[this.pictures.length - 1].picture : null;
	}

	/** The picture that shows a cell as it is at a frame: the first from then on in which it is not masked. @param {number} frame @param {number} place @returns {Picture | null} */
	pictureOf(frame, place) {
		const shows = (/** @type {{frame: number}} */ other) => ![MASKED, TAKEN_BACK].includes(this.frames[Math.min(other.frame, this.last)].signs[place]);
		const later = this.pictures.find((other) => other.frame >= frame && shows(other));
		if (later) return later.picture;
		const earlier = this.pictures.filter((other) => shows(other)).pop();
		return earlier ? earlier.picture : null;
	}

	/** The frame in which a cell was last revealed, up to one; 0 if it was not. @param {number} frame @param {number} place */
	cameAt(frame, place) {
		for (let i = Math.min(frame, this.last); i > 0; i -= 1) if (this.frames[i].signs[place] === REVEALED) return i;
		return 0;
	}

	/** How many cells are revealed, and how many are drawn at all. @param {number} frame @returns {[number, number]} */
	counts(frame) {
		const drawn = this.frames[this.last].signs.filter((sign) => sign !== FIXED).length;
		const shown = this.frames[frame].signs.filter((sign) => sign === KEPT || sign === REVEALED).length;
		return [shown, drawn];
	}

	/** A cell in words. @param {number} frame @param {number} place */
	tell(frame, place) {
		const where = `Row ${Math.floor(place / this.columns) + 1}, column ${(place % this.columns) + 1}`;
		const { signs, sure } = this.frames[frame];
		const percent = `${Math.round(sure[place] / 2.55)} % sure`;
		const came = this.cameAt(frame, place);
		if (signs[place] === FIXED) return `${where}: known from the picture`;
		if (signs[place] === TAKEN_BACK) return `${where}: taken back at this step`;
		if (signs[place] === MASKED) return frame ? `${where}: masked, its best guess ${percent}` : `${where}: masked`;
		return came ? `${where}: revealed at step ${came}, ${percent}` : `${where}: as in the picture`;
	}

	/** What a history keeps of it. */
	pack() {
		const frames = this.frames.map((frame) => ({ ...frame, signs: frame.signs.join("") }));
		const { width, height, cell, planned, windows } = this;
		return { width, height, cell, planned, windows, frames };
	}

	/** @param {any} packed @param {Picture} picture @param {Picture | null} base @param {Point} [corner] */
	static unpack(packed, picture, base = null, corner = undefined) {
		const made = new Unmasking(packed.width, packed.height, packed.cell, base, corner);
		made.frames = packed.frames.map((/** @type {any} */ frame) => ({ ...frame, signs: [...frame.signs] }));
		made.planned = packed.planned;
		made.windows = packed.windows;
		made.finish(picture);
		return made;
	}
}
