// The view that edits: a picture, a mask painted on it, a frame dragged beyond it, and what comes of it.

import { Composer } from "./composer.js";
import { blank, context, make, put, segments } from "./dom.js";
import { Report, request } from "./drawing.js";
import { Fields, optionsOf } from "./fields.js";
import { asFile } from "./files.js";
import { Mask } from "./mask.js";
import { resultActions } from "./results.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { cellOf } from "./trace.js";

/** @typedef {import("./api.js").Values} Values */
/** @typedef {import("./app.js").Studio} Studio */
/** @typedef {import("./history.js").Entry} Entry */
/** @typedef {"left" | "right" | "top" | "bottom"} Side */

const EDITS = "v1/images/edits", OUTPAINT = "v1/images/outpaint";
const SIDES = /** @type {Side[]} */ (["left", "right", "top", "bottom"]);
const NOT_HERE = ["n", "size", "quality", "strength", "share", "feather"];
// What each way of editing sends beside what all have; the fields themselves are the server's.
const MODES = /** @type {Record<string, {label: string, path: string, fields: string[], needsMask: boolean, says: string}>} */ ({
  paint: { label: "Paint over", path: EDITS, fields: ["feather"], needsMask: true, says: "Paint what shall be drawn anew; the rest stays as it is, to the pixel." },
  extend: { label: "Extend", path: OUTPAINT, fields: [...SIDES, "feather"], needsMask: false, says: "Drag the handles at the sides: what lies beyond the picture is drawn." },
  vary: { label: "Vary", path: EDITS, fields: ["strength", "feather"], needsMask: false, says: "A share of the cells, chosen at random, is drawn anew; paint to bound where." },
  revise: { label: "Revise", path: EDITS, fields: ["share", "feather"], needsMask: false, says: "The whole picture moves towards the prompt, step by step; paint to bound where." },
});

export class EditView {
  /** @param {Studio} studio */
  constructor(studio) {
    this.studio = studio;
    this.composer = new Composer(studio, `/${EDITS}`, { verb: "Draw the edit", without: NOT_HERE }, () => this.draw());
    this.composer.prompt.placeholder = "What shall be there? It may be empty.";
    this.report = new Report();
    this.stage = new Stage("The edited picture");
    this.timeline = new Timeline();
    this.actions = make("div", { class: "actions" });
    this.mode = "paint";
    /** @type {"edit" | "steps" | "compare"} */
    this.shown = "edit";
    /** @type {Record<Side, number>} */
    this.margins = { left: 0, right: 0, top: 0, bottom: 0 };
    /** @type {{blob: Blob, picture: ImageBitmap} | null} */
    this.source = null;
    /** @type {ImageBitmap | null} */
    this.beforeEdit = null;
    this.mask = new Mask(1, 1);
    /** @type {import("./mask.js").Tool} */
    this.tool = "brush";
    /** @type {import("./mask.js").Point[]} */
    this.line = [];
    this.fields = new Fields([]);
    this.file = make("input", { type: "file", accept: "image/png,image/jpeg,image/webp", id: "open-file", class: "unseen",
      onchange: () => this.file.files?.[0] && this.studio.take(this.file.files[0], "edit") });
    this.modes = segments("Kind of edit", Object.fromEntries(Object.entries(MODES).map(([name, { label }]) => [name, label])), "paint", (mode) => this.choose(mode));
    this.says = make("p", { class: "hint" });
    this.own = make("div", { class: "fields" });
    put(this.composer.extra, this.modes.element, this.says, this.own);
    this.size = make("input", { type: "range", min: "1", max: "100", value: "18", "aria-label": "Size of the brush" });
    this.tools = segments("Tool", { brush: "Brush", erase: "Erase", lasso: "Lasso" }, "brush", (tool) => (this.tool = /** @type {any} */ (tool)));
    const act = (/** @type {string} */ words, /** @type {() => void} */ does) => make("button", { type: "button", class: "quiet", onclick: () => {
      does();
      this.paint();
    } }, words);
    this.toolbar = make("div", { class: "row toolbar" }, this.tools.element, make("label", { class: "check" }, "Size", this.size),
      act("Undo", () => this.mask.undo()), act("Redo", () => this.mask.redo()), act("Invert", () => this.mask.invert()), act("Clear", () => this.mask.clear()));
    this.canvas = make("canvas", { class: "paper", tabIndex: 0, role: "application", "aria-roledescription": "canvas",
      "aria-label": "The picture. Arrow keys move the brush, Space paints, Control and Z undoes." });
    this.handles = /** @type {Record<Side, HTMLButtonElement>} */ (Object.fromEntries(SIDES.map((side) => [side,
      make("button", { type: "button", class: `handle ${side}`, "aria-label": `Extend the ${side}: drag, or use the arrow keys` })])));
    this.frame = make("div", { class: "frame" }, this.canvas, ...Object.values(this.handles));
    this.compare = make("input", { type: "range", min: "0", max: "100", value: "50", class: "compare", "aria-label": "Before and after", oninput: () => this.paint() });
    this.views = segments("Show", { edit: "Edit", steps: "Steps", compare: "Before / after" }, "edit", (view) => this.look(/** @type {any} */ (view)));
    this.drop = make("label", { class: "dropzone", for: "open-file" }, make("strong", {}, "Drop a picture here"), make("span", {}, "paste one, or click to choose a file"));
    this.open_ = make("label", { class: "button quiet", for: "open-file" }, "Open …");
    this.bench = make("div", { hidden: true }, make("div", { class: "row spread" }, this.views.element, this.open_), this.toolbar, this.frame,
      make("div", { class: "holder", hidden: true }, this.stage.element, this.timeline.element), this.compare);
    this.element = make("div", { class: "view" }, this.composer.element,
      make("section", { class: "work", "aria-label": "Picture" }, this.file, this.drop, this.bench, this.report.element, this.actions));
    this._listen();
    this.choose("paint");
  }

  /** @param {string} mode */
  choose(mode) {
    this.mode = mode;
    const { path, fields, says } = MODES[mode];
    const given = this.fields.read();
    this.fields = new Fields(optionsOf(this.studio.document, `/${path}`, this.composer.card), fields);
    this.fields.write({ strength: 0.5, share: 0.5, ...given, ...(mode === "extend" ? this.margins : {}) });
    this.own.replaceChildren(this.fields.element);
    this.says.textContent = says;
    this.frame.dataset.mode = mode;
    this.toolbar.hidden = mode === "extend" || this.shown !== "edit";
    for (const side of SIDES) {
      this.fields.fields.get(side)?.input.addEventListener("input", (event) => {
        if (event.isTrusted) this.extend(side, Number(/** @type {HTMLInputElement} */ (event.target).value) || 0, false);
      });
    }
    this.paint();
  }

  /**
   * Take a picture to be edited.
   * @param {Blob} blob
   */
  async load(blob) {
    const picture = await createImageBitmap(blob);
    this.source = { blob, picture };
    this.beforeEdit = null;
    this.actions.replaceChildren();
    this.report.say("");
    this._fresh();
    this.views.choose("edit");
  }

  _fresh() {
    if (!this.source) return;
    this.mask = new Mask(this.source.picture.width, this.source.picture.height);
    for (const side of SIDES) this.margins[side] = 0;
    this.fields.write({ ...this.fields.read(), ...(this.mode === "extend" ? this.margins : {}) });
    this.drop.hidden = true;
    this.bench.hidden = false;
  }

  /** @param {"edit" | "steps" | "compare"} view */
  look(view) {
    this.shown = view;
    this.toolbar.hidden = this.mode === "extend" || view !== "edit";
    this.frame.hidden = view === "steps";
    this.frame.dataset.view = view;
    /** @type {HTMLElement} */ (this.stage.element.parentElement).hidden = view !== "steps";
    this.compare.hidden = view !== "compare";
    this.paint();
  }

  /**
   * Give the frame another margin.
   * @param {Side} side
   * @param {number} pixels
   * @param {boolean} tells whether the field is to follow
   */
  extend(side, pixels, tells = true) {
    this.margins[side] = Math.max(0, Math.round(pixels));
    const field = this.fields.fields.get(side);
    if (tells && field) field.value = this.margins[side];
    this.paint();
  }

  /** How large the frame is, in pixels of the picture. */
  get whole() {
    const { width, height } = this.source?.picture ?? { width: 1, height: 1 };
    const { left, right, top, bottom } = this.mode === "extend" && this.shown === "edit" ? this.margins : { left: 0, right: 0, top: 0, bottom: 0 };
    return { x: left, y: top, width: width + left + right, height: height + top + bottom };
  }

  paint() {
    if (!this.source || !this.canvas) return;
    const { picture } = this.source, whole = this.whole;
    const scale = Math.max(1, Math.min(8, Math.floor(1200 / Math.max(whole.width, whole.height))));
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
    if (this.mode === "extend") this._beyond(pen, whole);
    pen.clearRect(whole.x, whole.y, picture.width, picture.height);
    pen.drawImage(picture, whole.x, whole.y);
    if (this.mode !== "extend") this._tint(pen);
    this._pointer(pen);
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {ImageBitmap} picture
   * @param {{width: number, height: number}} whole
   */
  _compare(pen, picture, whole) {
    pen.drawImage(picture, 0, 0);
    const before = this.beforeEdit;
    if (!before) return;
    const x = (Number(this.compare.value) / 100) * whole.width;
    pen.save();
    pen.beginPath();
    pen.rect(0, 0, x, whole.height);
    pen.clip();
    pen.clearRect(0, 0, whole.width, whole.height);
    pen.drawImage(before, this.placed.x, this.placed.y);
    pen.restore();
    pen.fillStyle = "#f2b84b";
    pen.fillRect(x - whole.width / 400, 0, whole.width / 200, whole.height);
  }

  /** Masked cells where the picture is to go on. @param {CanvasRenderingContext2D} pen @param {{width: number, height: number}} whole */
  _beyond(pen, whole) {
    const cell = cellOf(this.composer.card) || 8;
    for (let y = 0; y < whole.height; y += cell) {
      for (let x = 0; x < whole.width; x += cell) {
        pen.fillStyle = ((x + y) / cell) % 2 ? "#41436b" : "#4a4d7a";
        pen.fillRect(x, y, cell - 0.4, cell - 0.4);
      }
    }
  }

  /** @param {CanvasRenderingContext2D} pen */
  _tint(pen) {
    const veil = blank(this.mask.canvas.width, this.mask.canvas.height), on = context(veil);
    on.drawImage(this.mask.canvas, 0, 0);
    on.globalCompositeOperation = "source-in";
    on.fillStyle = "#2c2d4e"; // the colour of a masked cell
    on.fillRect(0, 0, veil.width, veil.height);
    pen.globalAlpha = 0.8;
    pen.drawImage(veil, 0, 0);
    pen.globalAlpha = 1;
    if (this.line.length > 1 && this.tool === "lasso") {
      pen.strokeStyle = "#f2b84b";
      pen.lineWidth = Math.max(0.5, veil.width / 200);
      pen.beginPath();
      for (const { x, y } of this.line) pen.lineTo(x, y);
      pen.stroke();
    }
  }

  /** Where the brush is, for those who move it by keys. @param {CanvasRenderingContext2D} pen */
  _pointer(pen) {
    if (!this.brush || document.activeElement !== this.canvas || this.mode === "extend") return;
    pen.lineWidth = this.brushSize / 12 + 0.3;
    for (const [colour, extra] of /** @type {[string, number][]} */ ([["#11121c", 0], ["#ffffff", pen.lineWidth]])) {
      pen.strokeStyle = colour;
      pen.beginPath();
      pen.arc(this.brush.x, this.brush.y, this.brushSize / 2 + extra, 0, 7);
      pen.stroke();
    }
  }

  /** In px of the picture. */
  get brushSize() {
    return Math.max(1, (Number(this.size.value) / 100) * (this.source?.picture.width ?? 1));
  }

  /** @param {PointerEvent} event @returns {import("./mask.js").Point} */
  _point(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.whole.width / box.width;
    return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
  }

  _listen() {
    const { canvas } = this;
    let down = false;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button || !this.source || this.mode === "extend" || this.shown !== "edit") return;
      canvas.setPointerCapture(event.pointerId);
      down = true;
      this.mask.mark();
      this.line = [this._point(event)];
      if (this.tool !== "lasso") this.mask.stroke(this.line[0], this.line[0], this.brushSize, this.tool === "erase");
      this.paint();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!down) return;
      const point = this._point(event), before = this.line[this.line.length - 1];
      this.line.push(point);
      if (this.tool !== "lasso") this.mask.stroke(before, point, this.brushSize, this.tool === "erase");
      this.paint();
    });
    const up = () => {
      if (!down) return;
      down = false;
      if (this.tool === "lasso" && this.line.length > 2) this.mask.fill(this.line);
      this.line = [];
      this.paint();
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("keydown", (event) => this._key(event));
    canvas.addEventListener("blur", () => this.paint());
    canvas.addEventListener("focus", () => this.paint());
    for (const side of SIDES) this._drag(side);
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    if (!this.source || this.mode === "extend" || this.shown !== "edit") return;
    const { width, height } = this.source.picture;
    this.brush ??= { x: width / 2, y: height / 2 };
    const step = Math.max(1, this.brushSize / 2);
    const moves = /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] });
    const move = moves[event.key];
    if (move) {
      const next = { x: Math.min(Math.max(this.brush.x + move[0], 0), width), y: Math.min(Math.max(this.brush.y + move[1], 0), height) };
      if (event.shiftKey) this.mask.stroke(this.brush, next, this.brushSize, this.tool === "erase");
      this.brush = next;
    } else if (event.key === " ") {
      this.mask.mark();
      this.mask.stroke(this.brush, this.brush, this.brushSize, this.tool === "erase");
    } else if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) {
      if (event.shiftKey) this.mask.redo();
      else this.mask.undo();
    } else return;
    event.preventDefault();
    this.paint();
  }

  /** @param {Side} side */
  _drag(side) {
    const handle = this.handles[side];
    const across = side === "left" || side === "right", sign = side === "left" || side === "top" ? -1 : 1;
    handle.addEventListener("pointerdown", (event) => {
      if (!this.source) return;
      handle.setPointerCapture(event.pointerId);
      const from = across ? event.clientX : event.clientY, had = this.margins[side];
      const scale = this.whole.width / this.canvas.getBoundingClientRect().width;
      const move = (/** @type {PointerEvent} */ moved) => this.extend(side, had + ((across ? moved.clientX : moved.clientY) - from) * sign * scale);
      handle.addEventListener("pointermove", move);
      const end = () => handle.removeEventListener("pointermove", move);
      handle.addEventListener("pointerup", end, { once: true });
      handle.addEventListener("pointercancel", end, { once: true });
    });
    handle.addEventListener("keydown", (event) => {
      const outward = { left: "ArrowLeft", right: "ArrowRight", top: "ArrowUp", bottom: "ArrowDown" }[side];
      const inward = { left: "ArrowRight", right: "ArrowLeft", top: "ArrowDown", bottom: "ArrowUp" }[side];
      if (event.key !== outward && event.key !== inward) return;
      event.preventDefault();
      const cell = cellOf(this.composer.card) || 8;
      this.extend(side, this.margins[side] + (event.key === outward ? cell : -cell));
    });
  }

  async draw() {
    if (!this.source) {
      this.report.fail(new Error("Open a picture first: drop one here, paste it, or take one of the history."), [], () => this.file.click());
      return;
    }
    const { path, needsMask } = MODES[this.mode];
    if (needsMask && this.mask.isEmpty) {
      this.report.fail(new Error("Nothing is painted yet, so nothing would change: paint over what shall be drawn anew."), [], () => this.draw());
      return;
    }
    const { picture, blob } = this.source;
    const given = this.fields.read();
    if (this.mask.isEmpty && this.mode !== "paint" && this.mode !== "extend") delete given.feather; // it softens the edge of a mask
    const body = { ...this.composer.read(), ...given };
    /** @type {Record<string, Blob>} */
    const files = { image: blob };
    let size = /** @type {[number, number]} */ ([picture.width, picture.height]), corner = { x: 0, y: 0 };
    if (this.mode === "extend") {
      const { left, right, top, bottom } = this.margins;
      size = [picture.width + left + right, picture.height + top + bottom];
      corner = { x: left, y: top };
    } else if (!this.mask.isEmpty) {
      files.mask = await asFile(this.mask.drawn());
      body.mask_mode = "white";
    }
    const work = new AbortController();
    this.composer.busy(work);
    this.fields.clearFaults();
    this.report.say("Sending …");
    try {
      const order = { path, body, files, size, base: picture, corner };
      const { results, seconds } = await request(order, () => this.studio.cardOf(this.composer.card.id), work.signal, {
        queued: (ahead) => this.report.say(ahead ? `Waiting: ${ahead} before you.` : "Drawing …"),
        begun: ([image]) => {
          this.views.choose("steps");
          this.stage.open(image);
          this.timeline.follow([this.stage]);
          this.timeline.begin();
        },
        changed: (image) => {
          if (!image.finished) this.report.say(`Step ${image.last} of ${image.planned} …`);
          this.stage.paint();
        },
      });
      this.timeline.finish();
      const entry = await this.studio.remember(order, results[0]);
      this.placed = corner;
      this.source = { blob: results[0].blob, picture: results[0].picture };
      this.beforeEdit = picture;
      this._fresh();
      this.report.say(`Drawn in ${seconds.toFixed(2)} s, seed ${body.seed}. It is the next picture now.`);
      this.report.warn(results[0].values.warnings, this.composer);
      this.actions.replaceChildren(resultActions(this.studio, entry, "edit"));
    } catch (error) {
      this.timeline.finish();
      this.views.choose("edit");
      this.report.fail(error, /** @type {any} */ ([this.fields, this.composer]), () => this.draw());
      this.studio.notice(error);
    } finally {
      this.composer.busy(null);
    }
  }

  /** @param {Entry} entry */
  async open(entry) {
    await this.load(entry.blob);
    this.composer.write({ ...entry.body, seed: undefined });
    this.actions.replaceChildren(resultActions(this.studio, entry, "edit"));
  }

  /** @param {Values} settings */
  write(settings) {
    this.composer.write(settings);
    if (typeof settings.mode === "string" && MODES[settings.mode]) this.modes.choose(settings.mode);
    this.fields.write({ ...this.fields.read(), ...settings });
  }

  /** What a link to this view holds; the picture itself is not in it. */
  settings() {
    return { ...this.composer.fields.read(), ...this.fields.read(), prompt: this.composer.prompt.value, model: this.composer.model.value, mode: this.mode };
  }

  /** @type {import("./mask.js").Point | null} */
  brush = null;
  placed = { x: 0, y: 0 };
}
