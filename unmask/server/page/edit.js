// The view that edits: a picture, a mask painted on it, a frame dragged beyond it, and what comes of it.

import { arrow, context, make, segments } from "./dom.js";
import { Report, request } from "./drawing.js";
import { asFile } from "./files.js";
import { ModesComposer } from "./modes.js";
import { Painter } from "./painter.js";
import { resultActions } from "./results.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { cellOf, stillOf } from "./trace.js";

const EDITS = "v1/images/edits", OUTPAINT = "v1/images/outpaint";
const SIDES = /** @type {Side[]} */ (["left", "right", "top", "bottom"]);
const NONE = { left: 0, right: 0, top: 0, bottom: 0 };
const NOT_HERE = ["n", "size", "quality", "strength", "share", "feather"];
// What each way of editing sends beside what all have; the fields themselves are the server's.
const verb = "Draw the edit";
const MODES = {
	paint: { label: "Paint over", verb, path: EDITS, fields: ["feather"], says: "Paint what shall be drawn anew; the rest stays as it is, to the pixel." },
	extend: { label: "Extend", verb, path: OUTPAINT, fields: [...SIDES, "feather"], says: "Drag the handles at the sides: what lies beyond the picture is drawn." },
	vary: { label: "Vary", verb, path: EDITS, fields: ["strength", "feather"], says: "A share of the cells, chosen at random, is drawn anew; paint to bound where." },
	revise: { label: "Revise", verb, path: EDITS, fields: ["share", "feather"], says: "The whole picture moves towards the prompt, step by step; paint to bound where." },
};

export class EditView {
	takes = true; // pictures that are dropped

	/** @param {Studio} studio */
	constructor(studio) {
		this.studio = studio;
		this.composer = new ModesComposer(studio, MODES, { label: "Kind of edit", without: NOT_HERE }, { strength: 0.5, share: 0.5, ...NONE }, () => this.chosen(), () => this.draw());
		this.composer.prompt.placeholder = "What shall be there? It may be empty.";
		this.report = new Report();
		this.stage = new Stage("The edited picture");
		this.timeline = new Timeline();
		this.actions = make("div", "actions");
		/** @type {"edit" | "steps" | "compare"} */
		this.shown = "edit";
		/** @type {Given | null} */
		this.source = null;
		/** @type {Picture | null} */
		this.beforeEdit = null;
		this.file = make("input", { type: "file", accept: "image/png,image/jpeg,image/webp", id: "open-file", class: "unseen",
			onchange: () => this.file.files?.[0] && this.studio.take(this.file.files[0], "edit") });
		this.painter = new Painter(() => this.source !== null && !this.extends && this.shown === "edit", () => this.paint());
		this.canvas = this.painter.canvas;
		this.handles = /** @type {Record<Side, HTMLButtonElement>} */ (Object.fromEntries(SIDES.map((side) => [side,
			make("button", { class: `handle ${side}`, "aria-label": `Extend the ${side}: drag, or use the arrow keys` })])));
		this.frame = make("div", "frame", this.canvas, ...Object.values(this.handles));
		this.compare = make("input", { type: "range", min: "0", max: "100", value: "50", class: "compare", "aria-label": "Before and after", oninput: () => this.paint() });
		this.views = segments("Show", { edit: "Edit", steps: "Steps", compare: "Before / after" }, "edit", (view) => this.look(/** @type {any} */ (view)));
		this.drop = make("label", { class: "dropzone", for: "open-file" }, make("strong", {}, "Drop a picture here"), make("span", {}, "paste one, or click to choose a file"));
		this.open_ = make("label", { class: "button quiet", for: "open-file" }, "Open …");
		this.bench = make("div", { hidden: true }, make("div", "row spread", this.views.element, this.open_), this.painter.toolbar, this.frame,
			make("div", { class: "holder", hidden: true }, this.stage.element, this.timeline.element), this.compare);
		this.element = make("div", "view", this.composer.element,
			make("section", { class: "work", "aria-label": "Picture" }, this.file, this.drop, this.bench, this.report.element, this.actions));
		for (const side of SIDES) this._drag(side);
		this.composer.choose("paint");
	}

	/** Whether the frame is drawn beyond the picture. */
	get extends() {
		return this.composer.mode === "extend";
	}

	/** Another kind of edit was chosen. */
	chosen() {
		this.frame.dataset.mode = this.composer.mode;
		this.painter.toolbar.hidden = this.extends || this.shown !== "edit";
		for (const side of SIDES) this.composer.own.fields.get(side)?.input.addEventListener("input", () => this.paint());
		this.paint();
	}

	/** Take a picture to be edited. @param {Blob} blob */
	async load(blob) {
		const picture = await createImageBitmap(blob);
		this.source = { blob, picture };
		this.beforeEdit = null;
		this.stage.open(stillOf(picture, this.composer.card));
		this.timeline.follow([this.stage]);
		this.actions.replaceChildren();
		this.report.say("");
		this._fresh();
		this.views.choose("edit");
	}

	_fresh() {
		if (!this.source) return;
		this.painter.clean(this.source.picture.width, this.source.picture.height);
		this.composer.set(NONE);
		this.drop.hidden = true;
		this.bench.hidden = false;
	}

	/** @param {"edit" | "steps" | "compare"} view */
	look(view) {
		this.shown = view;
		this.painter.toolbar.hidden = this.extends || view !== "edit";
		this.frame.hidden = view === "steps";
		this.frame.dataset.view = view;
		/** @type {HTMLElement} */ (this.stage.element.parentElement).hidden = view !== "steps";
		this.compare.hidden = view !== "compare";
		this.paint();
	}

	/** How far the frame goes beyond the picture, in its pixels; the fields hold it. */
	get margins() {
		const of = (/** @type {Side} */ side) => Math.max(0, Math.round(Number(this.composer.own.fields.get(side)?.value ?? 0)) || 0);
		return { left: of("left"), right: of("right"), top: of("top"), bottom: of("bottom") };
	}

	/** How large the frame is, in pixels of the picture. */
	get whole() {
		const { width, height } = this.source?.picture ?? { width: 1, height: 1 };
		const { left, right, top, bottom } = this.shown === "edit" ? this.margins : NONE;
		return { x: left, y: top, width: width + left + right, height: height + top + bottom };
	}

	paint() {
		if (!this.source || !this.canvas) return;
		const { picture } = this.source, whole = this.whole;
		const fit = 1200 / Math.max(whole.width, whole.height), scale = Math.min(8, fit < 1 ? fit : Math.floor(fit));
		Object.assign(this.canvas, { width: whole.width * scale, height: whole.height * scale });
		this.canvas.style.aspectRatio = `${whole.width} / ${whole.height}`;
		this.frame.style.setProperty("--ratio", String(whole.width / whole.height));
		const pen = context(this.canvas);
		pen.scale(scale, scale);
		pen.imageSmoothingEnabled = picture.width > 160;
		if (this.shown === "compare") {
			this._compare(pen, picture, whole);
			return;
		}
		if (this.extends) this._beyond(pen, whole);
		pen.clearRect(whole.x, whole.y, picture.width, picture.height);
		pen.drawImage(picture, whole.x, whole.y);
		if (!this.extends) this.painter.paint(pen);
	}

	/** @param {Pen} pen @param {ImageBitmap} picture @param {Size} whole */
	_compare(pen, picture, { width, height }) {
		const before = this.beforeEdit, x = before ? (Number(this.compare.value) / 100) * width : 0, right = width - x;
		if (before) pen.drawImage(before, this.placed.x, this.placed.y);
		pen.clearRect(x, 0, right, height);
		pen.drawImage(picture, x, 0, right, height, x, 0, right, height);
		if (!before) return;
		pen.fillStyle = "#f2b84b";
		pen.fillRect(x - width / 400, 0, width / 200, height);
	}

	/** Masked cells where the picture is to go on. @param {Pen} pen @param {Size} whole */
	_beyond(pen, whole) {
		const cell = Math.max(cellOf(this.composer.card, [whole.width, whole.height]) || 8, whole.width / 99, whole.height / 99);
		for (let y = 0; y < whole.height; y += cell) {
			for (let x = 0; x < whole.width; x += cell) {
				pen.fillStyle = Math.round((x + y) / cell) % 2 ? "#41436b" : "#4a4d7a";
				pen.fillRect(x, y, cell - 0.4, cell - 0.4);
			}
		}
	}

	/** @param {Side} side */
	_drag(side) {
		const handle = this.handles[side];
		const extend = (/** @type {number} */ pixels) => this.composer.set({ [side]: Math.max(0, Math.round(pixels)) });
		const across = side === "left" || side === "right", sign = side === "left" || side === "top" ? -1 : 1;
		handle.onpointerdown = (event) => {
			if (!this.source) return;
			handle.setPointerCapture(event.pointerId);
			const from = across ? event.clientX : event.clientY, had = this.margins[side];
			const scale = this.whole.width / this.canvas.getBoundingClientRect().width;
			const move = (/** @type {PointerEvent} */ moved) => extend(had + ((across ? moved.clientX : moved.clientY) - from) * sign * scale);
			handle.onpointermove = move;
			handle.onpointerup = handle.onpointercancel = () => (handle.onpointermove = null);
		};
		handle.onkeydown = (event) => {
			const by = sign * (arrow(event.key)?.[across ? 0 : 1] ?? 0);
			if (!by) return;
			event.preventDefault();
			const cell = cellOf(this.composer.card, [this.whole.width, this.whole.height]) || 8;
			extend(this.margins[side] + by * cell);
		};
	}

	/** The request that the form asks for. @returns {Promise<Order>} */
	async _order() {
		if (!this.source) throw new Error("Open a picture first: drop one here, paste it, or take one of the history.");
		const { picture, blob } = this.source, { left, right, top, bottom } = this.margins;
		const body = this.composer.read(), masked = this.composer.mode === "paint" || !(this.extends || this.painter.mask.isEmpty);
		if (!masked && !this.extends) delete body.feather; // it softens the edge of a mask
		/** @type {Record<string, Blob>} */
		const files = { image: blob };
		if (masked) {
			files.mask = await asFile(this.painter.drawn());
			body.mask_mode = "white";
		}
		return { path: this.composer.route, body, files, base: picture, corner: { x: left, y: top }, size: [picture.width + left + right, picture.height + top + bottom] };
	}

	async draw() {
		const failed = () => {
			this.timeline.finish();
			this.views.choose("edit");
		};
		await this.composer.run(this.report, async (signal) => {
			const order = await this._order();
			const { results, seconds } = await request(order, this, signal, {
				begun: ([image]) => {
					this.views.choose("steps");
					this.stage.open(image);
					this.timeline.follow([this.stage]);
					this.timeline.begin();
				},
				changed: () => this.stage.paint(),
			});
			this.timeline.finish();
			const entry = await this.studio.remember(order, results[0]);
			this.placed = order.corner ?? this.placed;
			this.source = results[0];
			this.beforeEdit = order.base ?? null;
			this._fresh();
			this.report.say(`Drawn in ${seconds.toFixed(2)} s, seed ${order.body.seed}. It is the next picture now.`);
			this.report.warn(results[0].values.warnings, this.composer);
			this.actions.replaceChildren(resultActions(this.studio, entry, "edit"));
		}, { retry: () => this.draw(), failed });
	}

	/** @param {Entry} entry */
	async open(entry) {
		this.composer.write({ ...entry.body, seed: undefined });
		await this.load(entry.blob);
		this.actions.replaceChildren(resultActions(this.studio, entry, "edit"));
	}

	/** @param {Values} settings */
	write(settings) {
		this.composer.write(settings);
	}

	/** What a link to this view holds; the picture itself is not in it. */
	settings() {
		return this.composer.settings();
	}

	placed = { x: 0, y: 0 };
}
