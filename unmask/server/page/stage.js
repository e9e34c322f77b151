// The stage: a picture with its cells laid over it, at any step.

import { arrow, context, isStill, make } from "./dom.js";
import { FIXED, KEPT, MASKED, REVEALED, TAKEN_BACK, Unmasking } from "./trace.js";

const POP_MS = 420; // over which a revealed cell comes in
const SMALL = 160; // px: pictures up to this are drawn with hard pixels
const WHEN = ["#35276d", "#2d5f9a", "#2a8f94", "#58b66c", "#c9cf3c", "#fbe64d"];
const SURE = ["#7a1f3d", "#c2453f", "#e8894a", "#f0c667", "#bcd78f", "#4fae8d"];

/** Shows one Unmasking. */
export class Stage {
	/** @param {string} label what the picture is, for those who do not see it @param {((places: number[]) => void) | null} onPick hears of the cells that are to be drawn again */
	constructor(label, onPick = null) {
		this.label = label;
		this.onPick = onPick;
		/** @type {Unmasking | null} */
		this.unmasking = null;
		this.frame = 0;
		/** @type {View} */
		this.view = "cells";
		/** @type {Set<number>} */
		this.picked = new Set();
		this.cursor = -1;
		this.changedAt = 0;
		this.now = 0; // ms
		this.age = 0; // ms since the last change
		this.picking = false;
		this.request = 0;
		this.canvas = make("canvas", { tabIndex: 0, role: "img", width: 1, height: 1, "aria-label": label });
		this.words = make("p", "cellwords");
		this.element = make("figure", "stage", this.canvas, make("figcaption", {}, this.words));
		if (onPick) {
			this.canvas.setAttribute("role", "application");
			this.canvas.setAttribute("aria-roledescription", "picture of cells");
			this.canvas.classList.add("pickable");
			this._listen();
		}
		new ResizeObserver(() => this.paint()).observe(this.canvas);
	}

	/** @param {Unmasking} unmasking */
	open(unmasking) {
		this.unmasking = unmasking;
		this.cursor = -1;
		this.picked.clear();
		this.canvas.style.aspectRatio = `${unmasking.width} / ${unmasking.height}`;
		this.frame = -1;
		this.at(0);
	}

	/** @param {number} frame */
	at(frame) {
		if (!this.unmasking) return;
		const next = Math.max(0, Math.min(frame, this.unmasking.last));
		if (next !== this.frame) {
			this.frame = next;
			this.changedAt = performance.now();
		}
		this._tell();
		this.paint();
	}

	/** @param {View} view */
	look(view) {
		this.view = view;
		this.paint();
	}

	/** Draw now, and again as long as anything moves. */
	paint() {
		cancelAnimationFrame(this.request);
		this.request = requestAnimationFrame((now) => this._paint(now));
	}

	/** @param {number} now */
	_paint(now) {
		const shown = this.unmasking;
		const { clientWidth, clientHeight } = this.canvas;
		if (!shown || !clientWidth) return;
		const scale = Math.min(window.devicePixelRatio || 1, 2);
		const width = Math.round(clientWidth * scale), height = Math.round(clientHeight * scale);
		if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
		const pen = context(this.canvas);
		const zoom = width / shown.width;
		pen.imageSmoothingEnabled = shown.width > SMALL;
		pen.clearRect(0, 0, width, height);
		const done = shown.finished && this.frame === shown.last;
		if (done && shown.picture) pen.drawImage(shown.picture, 0, 0, width, height);
		else if (shown.base) {
			pen.drawImage(shown.base, shown.corner.x * zoom, shown.corner.y * zoom, shown.base.width * zoom, shown.base.height * zoom);
		}
		const age = isStill() ? POP_MS : now - this.changedAt;
		Object.assign(this, { now, age });
		if (!(done && this.view === "picture") || this.picked.size || this.cursor >= 0) {
			for (let place = 0; place < shown.rows * shown.columns; place += 1) this._cell(pen, shown, place, zoom);
		}
		const moves = shown.frames[this.frame].signs.includes(MASKED) || age < POP_MS;
		if (moves && !isStill() && this.canvas.isConnected) this.paint();
	}

	/** @param {Pen} pen @param {Unmasking} shown @param {number} place @param {number} zoom */
	_cell(pen, shown, place, zoom) {
		const row = Math.floor(place / shown.columns), column = place % shown.columns;
		const left = column * shown.cell, top = row * shown.cell;
		const x = left * zoom, y = top * zoom;
		const w = Math.min(shown.cell, shown.width - left) * zoom, h = Math.min(shown.cell, shown.height - top) * zoom;
		const { signs, sure } = shown.frames[this.frame];
		const sign = signs[place];
		if (sign === MASKED || sign === TAKEN_BACK) {
			this._mask(pen, place, sign, sure[place] / 255, { x, y, w, h });
		} else if (sign !== FIXED) {
			const picture = shown.pictureOf(this.frame, place);
			if (picture) pen.drawImage(picture, left, top, w / zoom, h / zoom, x, y, w, h);
			else if (sign !== KEPT || !shown.base) {
				pen.fillStyle = "#6f78b8";
				pen.fillRect(x, y, w, h);
			}
			if (sign === REVEALED && this.age < POP_MS && this.view !== "picture") {
				pen.fillStyle = `rgba(255, 244, 214, ${(1 - this.age / POP_MS) * 0.75})`;
				pen.fillRect(x, y, w, h);
			}
			if (sign === REVEALED && this.view === "cells" && !(shown.finished && this.frame === shown.last)) {
				pen.strokeStyle = "#f2b84b";
				pen.lineWidth = Math.max(2, w * 0.06);
				pen.strokeRect(x + pen.lineWidth / 2, y + pen.lineWidth / 2, w - pen.lineWidth, h - pen.lineWidth);
			}
			this._heat(pen, shown, place, { x, y, w, h });
		}
		if (this.picked.has(place) || place === this.cursor) {
			pen.lineWidth = Math.max(2, w * 0.05);
			for (const [colour, inset] of /** @type {[string, number][]} */ ([["#11121c", 0.5], ["#ffffff", 1.5]])) {
				pen.strokeStyle = colour;
				pen.setLineDash(this.picked.has(place) ? [] : [6, 5]);
				pen.strokeRect(x + pen.lineWidth * inset, y + pen.lineWidth * inset, w - 2 * inset * pen.lineWidth, h - 2 * inset * pen.lineWidth);
			}
			pen.setLineDash([]);
		}
	}

	/** A masked cell shimmers; the dot grows with how sure the model is. @param {Pen} pen @param {number} place @param {string} sign @param {number} sure @param {Box} box */
	_mask(pen, place, sign, sure, { x, y, w, h }) {
		const own = (Math.sin(place * 127.1) * 43758.5453) % 1;
		const wave = isStill() ? 0.5 : 0.5 + 0.5 * Math.sin(this.now / 900 + own * 6.28);
		pen.fillStyle = `hsl(${238 + own * 16} 24% ${27 + wave * 11}%)`;
		pen.fillRect(x, y, w, h);
		if (sign === TAKEN_BACK && this.view !== "picture") {
			pen.fillStyle = `rgba(232, 112, 79, ${0.35 + 0.5 * (1 - Math.min(this.age / POP_MS, 1))})`;
			pen.fillRect(x, y, w, h);
		}
		pen.strokeStyle = "rgba(12, 12, 28, .45)";
		pen.lineWidth = 1;
		pen.strokeRect(x + 0.5, y + 0.5, w - 1, h - 1);
		if (this.view !== "picture" && sure > 0.02 && w > 5) {
			pen.fillStyle = "rgba(214, 219, 255, .8)";
			pen.beginPath();
			pen.arc(x + w / 2, y + h / 2, Math.min(w, h) * (0.04 + 0.24 * sure), 0, 7);
			pen.fill();
		}
	}

	/** @param {Pen} pen @param {Unmasking} shown @param {number} place @param {Box} box */
	_heat(pen, shown, place, { x, y, w, h }) {
		const came = shown.cameAt(this.frame, place);
		if (!came || (this.view !== "when" && this.view !== "sure")) return;
		const sure = shown.frames[this.frame].sure[place] / 255;
		const share = this.view === "when" ? (came - 1) / Math.max(1, Math.max(shown.planned, shown.last) - 1) : sure;
		pen.globalAlpha = 0.86;
		pen.fillStyle = mixed(this.view === "when" ? WHEN : SURE, share);
		pen.fillRect(x, y, w, h);
		pen.globalAlpha = 1;
		const size = Math.min(w * 0.36, h * 0.42, 26 * (window.devicePixelRatio || 1));
		if (size < 9) return;
		pen.fillStyle = share > 0.45 ? "#15151f" : "#ffffff";
		pen.font = `600 ${size}px system-ui, sans-serif`;
		pen.textAlign = "center";
		pen.textBaseline = "middle";
		pen.fillText(String(this.view === "when" ? came : Math.round(sure * 100)), x + w / 2, y + h / 2 + size * 0.06);
	}

	/** The cell under a pointer. @param {PointerEvent} event */
	_placeAt(event) {
		if (!this.unmasking) return -1;
		const box = this.canvas.getBoundingClientRect();
		const { columns, rows, cell, width } = this.unmasking;
		const zoom = box.width / width;
		const column = Math.floor((event.clientX - box.left) / zoom / cell), row = Math.floor((event.clientY - box.top) / zoom / cell);
		return column >= 0 && row >= 0 && column < columns && row < rows ? row * columns + column : -1;
	}

	_listen() {
		const { canvas } = this;
		canvas.onpointerdown = (event) => {
			const place = this._placeAt(event);
			if (place < 0 || event.button) return;
			canvas.setPointerCapture(event.pointerId);
			this.picking = true;
			this.picked.add(place);
			this.paint();
		};
		canvas.onpointermove = (event) => {
			const place = this._placeAt(event);
			if (this.picking && place >= 0) this.picked.add(place);
			if (event.pointerType === "mouse") this.cursor = place;
			this._tell();
			this.paint();
		};
		canvas.onpointerup = () => this._pick();
		canvas.onpointercancel = () => {
			this.picking = false;
			this.picked.clear();
			this.paint();
		};
		canvas.onpointerleave = () => {
			if (!this.picking) this.cursor = -1;
			this._tell();
			this.paint();
		};
		canvas.onblur = () => {
			this.cursor = -1;
			this.paint();
		};
		canvas.onkeydown = (event) => this._key(event);
	}

	/** @param {KeyboardEvent} event */
	_key(event) {
		const shown = this.unmasking;
		if (!shown) return;
		const move = arrow(event.key);
		if (move) {
			const at = Math.max(this.cursor, 0), [right, down] = this.cursor < 0 ? [0, 0] : move;
			const row = Math.min(Math.max(Math.floor(at / shown.columns) + down, 0), shown.rows - 1);
			const column = Math.min(Math.max((at % shown.columns) + right, 0), shown.columns - 1);
			this.cursor = row * shown.columns + column;
		} else if (event.key === " " && this.cursor >= 0) {
			if (!this.picked.delete(this.cursor)) this.picked.add(this.cursor);
		} else if (event.key === "Enter" && this.cursor >= 0) {
			this.picked.add(this.cursor);
			this._pick();
		} else if (event.key === "Escape" && this.picked.size) this.picked.clear();
		else return;
		event.preventDefault();
		this._tell(true);
		this.paint();
	}

	_pick() {
		this.picking = false;
		const places = [...this.picked];
		if (places.length && this.onPick && this.unmasking?.finished) this.onPick(places);
		this.picked.clear();
		this.paint();
	}

	/** @param {boolean} [aloud] */
	_tell(aloud = false) {
		if (!this.unmasking) return;
		const words = this.cursor >= 0 ? this.unmasking.tell(this.frame, this.cursor) : "";
		this.words.textContent = words;
		if (aloud && words) this.canvas.setAttribute("aria-label", words);
		else if (this.cursor < 0) {
			const [shown, all] = this.unmasking.counts(this.frame);
			const hint = this.onPick ? ". Arrow keys move between cells, Enter draws one again." : "";
			this.canvas.setAttribute("aria-label", `${this.label}: ${shown} of ${all} cells revealed${hint}`);
		}
	}
}

/** A colour between those of a scale. @param {string[]} scale @param {number} share */
function mixed(scale, share) {
	const at = Math.min(Math.max(share, 0), 1) * (scale.length - 1);
	const low = Math.min(Math.floor(at), scale.length - 2);
	const part = (/** @type {string} */ colour, /** @type {number} */ i) => parseInt(colour.slice(1 + 2 * i, 3 + 2 * i), 16);
	const numbers = [0, 1, 2].map((i) => Math.round(part(scale[low], i) + (at - low) * (part(scale[low + 1], i) - part(scale[low], i))));
	return `rgb(${numbers.join(", ")})`;
}

/** The two scales, as bars with words. @param {View} view */
export function legend(view) {
	if (view !== "when" && view !== "sure") return null;
	const bar = make("span", "scale");
	bar.style.background = `linear-gradient(90deg, ${view === "when" ? WHEN : SURE})`;
	const [low, high] = view === "when" ? ["first step", "last step"] : ["0 % sure", "100 % sure"];
	return make("span", "legend", low, bar, high);
}
