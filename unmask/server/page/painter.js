// Painting a mask over a picture with brush, eraser or lasso, by a pointer or by keys.

import { arrow, blank, context, make, quiet, segments } from "./dom.js";
import { Mask } from "./mask.js";

/** A canvas on which a mask is painted, and its tools. What lies under the mask is drawn by whoever owns it. */
export class Painter {
	/** @param {() => boolean} isOn whether it can be painted on now @param {() => void} onChange */
	constructor(isOn, onChange) {
		this.isOn = isOn;
		this.onChange = onChange;
		this.mask = new Mask(1, 1);
		/** @type {Tool} */
		this.tool = "brush";
		/** @type {Point[]} */
		this.line = [];
		/** @type {Point | null} */
		this.brush = null;
		this.size = make("input", { type: "range", min: "1", max: "100", value: "18", "aria-label": "Size of the brush" });
		const tools = segments("Tool", { brush: "Brush", erase: "Erase", lasso: "Lasso" }, "brush", (tool) => (this.tool = /** @type {any} */ (tool)));
		const act = (/** @type {string} */ words, /** @type {() => void} */ does) => quiet(words, () => {
			does();
			onChange();
		});
		this.toolbar = make("div", "row toolbar", tools.element, make("label", "check", "Size", this.size),
			act("Undo", () => this.mask.undo()), act("Redo", () => this.mask.redo()), act("Invert", () => this.mask.invert()), act("Clear", () => this.mask.clear()));
		this.canvas = make("canvas", { class: "paper", tabIndex: 0, role: "application", "aria-roledescription": "canvas",
			"aria-label": "The picture. Arrow keys move the brush, Space paints, Control and Z undoes." });
		this._listen();
	}

	/** Begin with an empty mask. @param {number} width @param {number} height */
	clean(width, height) {
		this.mask = new Mask(width, height);
	}

	/** The mask as it is sent. */
	drawn() {
		if (this.mask.isEmpty) throw new Error("Nothing is painted yet, so nothing would change: paint over what shall be drawn anew.");
		return this.mask.drawn();
	}

	/** Draw the mask, and the brush. @param {Pen} pen */
	paint(pen) {
		const { width, height, canvas } = this.mask, veil = blank(canvas.width, canvas.height), on = context(veil);
		on.drawImage(canvas, 0, 0);
		on.globalCompositeOperation = "source-in";
		on.fillStyle = "#2c2d4e"; // the colour of a masked cell
		on.fillRect(0, 0, veil.width, veil.height);
		pen.globalAlpha = 0.8;
		pen.drawImage(veil, 0, 0, width, height);
		pen.globalAlpha = 1;
		if (this.tool === "lasso") this._rope(pen);
		else if (this.brush) this._ring(pen, this.brush);
	}

	/** @param {Pen} pen */
	_rope(pen) {
		pen.strokeStyle = "#f2b84b";
		pen.lineWidth = this.mask.width / 200;
		pen.beginPath();
		for (const { x, y } of this.line) pen.lineTo(x, y);
		pen.stroke();
	}

	/** Where the brush is, and how large. @param {Pen} pen @param {Point} at */
	_ring(pen, { x, y }) {
		pen.lineWidth = this.mask.width / 250;
		for (const [colour, extra] of /** @type {[string, number][]} */ ([["#11121c", 0], ["#ffffff", pen.lineWidth]])) {
			pen.strokeStyle = colour;
			pen.beginPath();
			pen.arc(x, y, this.brushSize / 2 + extra, 0, 7);
			pen.stroke();
		}
	}

	/** In px of the picture. */
	get brushSize() {
		return Math.max(1, (Number(this.size.value) / 100) * this.mask.width);
	}

	/** @param {Point} from @param {Point} to */
	_stroke(from, to) {
		this.mask.stroke(from, to, this.brushSize, this.tool === "erase");
	}

	/** @param {PointerEvent} event */
	_point(event) {
		const box = this.canvas.getBoundingClientRect();
		const scale = this.mask.width / box.width;
		return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
	}

	_listen() {
		const { canvas } = this;
		let down = false;
		canvas.onpointerdown = (event) => {
			if (event.button || !this.isOn()) return;
			canvas.setPointerCapture(event.pointerId);
			down = true;
			this.mask.mark();
			this.line = [this._point(event)];
			if (this.tool !== "lasso") this._stroke(this.line[0], this.line[0]);
			this.onChange();
		};
		canvas.onpointermove = (event) => {
			if (!this.isOn()) return;
			const point = this._point(event), before = this.line[this.line.length - 1];
			this.brush = point;
			if (down) {
				this.line.push(point);
				if (this.tool !== "lasso") this._stroke(before, point);
			}
			this.onChange();
		};
		const up = () => {
			if (!down) return;
			down = false;
			if (this.tool === "lasso" && this.line.length > 2) this.mask.fill(this.line);
			this.line = [];
			this.onChange();
		};
		canvas.onpointerup = up;
		canvas.onpointercancel = up;
		for (const left of ["pointerleave", "blur"]) {
			canvas.addEventListener(left, () => {
				if (down || !this.brush) return;
				this.brush = null;
				this.onChange();
			});
		}
		canvas.onkeydown = (event) => this._key(event);
	}

	/** @param {KeyboardEvent} event */
	_key(event) {
		if (!this.isOn()) return;
		const { width, height } = this.mask;
		this.brush ??= { x: width / 2, y: height / 2 };
		const step = Math.max(1, this.brushSize / 2);
		const move = arrow(event.key);
		if (move) {
			const next = { x: Math.min(Math.max(this.brush.x + move[0] * step, 0), width), y: Math.min(Math.max(this.brush.y + move[1] * step, 0), height) };
			if (event.shiftKey) {
				this.mask.mark();
				this._stroke(this.brush, next);
			}
			this.brush = next;
		} else if (event.key === " ") {
			this.mask.mark();
			this._stroke(this.brush, this.brush);
		} else if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) {
			if (event.shiftKey) this.mask.redo();
			else this.mask.undo();
		} else return;
		event.preventDefault();
		this.onChange();
	}
}
