// The view of clips: frames over time, drawn slot by slot; how a clip goes on, and how it is changed.

import { animated } from "./apng.js";
import { bytes, hear, isAway, pause, send } from "./api.js";
import { blank, context, isStill, make, put, quiet } from "./dom.js";
import { Report } from "./drawing.js";
import { asFile, nameOf, NO_PICTURE, save, VIDEOS } from "./files.js";
import { ModesComposer } from "./modes.js";
import { Painter } from "./painter.js";
import { copies } from "./results.js";
import { Controls } from "./timeline.js";

const EDITS = `${VIDEOS}/edits`;
const PREVIEWS = 16; // the most that a clip's events have
const NOT_HERE = ["size", "fps", "previews"];
const MODES = {
	new: { label: "New", verb: "Draw", path: VIDEOS, fields: ["seconds"], says: "A clip from a prompt. It may begin and end with pictures of yours." },
	extend: { label: "Go on", verb: "Go on", path: `${VIDEOS}/extensions`, fields: ["seconds"], says: "So many seconds more; what is there stays." },
	paint: { label: "Paint over", verb: "Draw the edit", path: EDITS, fields: ["strength"], says: "Paint on a frame what shall be drawn anew, and say in which frames." },
	revise: { label: "Revise", verb: "Draw the edit", path: EDITS, fields: ["share"], says: "The whole clip moves towards the prompt, step by step." },
};

/** A picture that the clip is to begin or end with. */
class Well {
	/** @param {string} label @param {() => void} onChange @param {Report} report that hears of files that are no pictures */
	constructor(label, onChange, report) {
		this.onChange = onChange;
		/** @type {Given | null} */
		this.given = null;
		this.file = make("input", { type: "file", accept: "image/png,image/jpeg,image/webp", class: "unseen", "aria-label": `${label}: choose a file`,
			onchange: () => this.file.files?.[0] && this.take(this.file.files[0]).catch(() => report.say(NO_PICTURE)) });
		this.canvas = make("canvas", { width: 64, height: 64, "aria-hidden": "true" });
		this.remove = quiet("✕", () => this.take(null), `Remove: ${label}`);
		this.remove.hidden = true;
		this.element = make("div", "inline", make("label", "well", this.file, this.canvas, make("span", {}, label)), this.remove);
	}

	/** @param {Blob | null} blob */
	async take(blob) {
		this.given = blob && { blob, picture: await createImageBitmap(blob) };
		this.remove.hidden = !blob;
		this.file.value = "";
		const pen = context(this.canvas);
		pen.clearRect(0, 0, 64, 64);
		if (this.given) pen.drawImage(filled(64, 64, "white", this.given.picture), 0, 0);
		this.onChange();
	}
}

export class ClipsView {
	takes = true; // pictures that are dropped

	/** @param {Studio} studio */
	constructor(studio) {
		this.studio = studio;
		const about = { label: "What to draw", without: [...NOT_HERE, "seconds"], fits: drawsClips };
		this.composer = new ModesComposer(studio, MODES, about, { seconds: 2, share: 0.5 }, () => this.chosen(), () => this.draw());
		this.composer.prompt.placeholder = "What shall be seen, and how does it move? Such as: a red car moves to the right";
		this.report = new Report();
		/** @type {Clip | null} */
		this.clip = null;
		/** @type {ImageBitmap[]} the key frames, as they were on the way */
		this.strips = [];
		this.slots = 1;
		this.frame = 0;
		this.tick = 0;
		const act = () => this.paint();
		this.first = new Well("First picture", act, this.report);
		this.last = new Well("Last picture", act, this.report);
		this.wells = make("div", "row", this.first.element, this.last.element);
		put(this.composer.extra, this.wells);

		this.painter = new Painter(() => this.paints, act);
		this.canvas = this.painter.canvas;
		const range = (/** @type {string} */ label, /** @type {() => void} */ oninput) => make("input", { type: "range", min: "0", max: "0", value: "0", "aria-label": label, oninput });
		this.from = range("The first frame that is painted over", () => this.go(Number(this.from.value)));
		this.to = range("The last frame that is painted over", () => this.go(Number(this.to.value)));
		this.span = make("output", "hint");
		put(this.painter.toolbar, make("label", "check", "From", this.from), make("label", "check", "to", this.to), this.span);
		this.controls = new Controls("Frame", () => (this.tick ? this.stop() : this.start()), (by) => this.go(this.frame + by), (to) => this.go(to));
		this.loop = make("input", { type: "checkbox", checked: true });
		this.strip = make("div", { class: "slots", role: "group", "aria-label": "Slots" });
		this.way = range("Step of unmasking", act);
		this.unmasking = make("label", { class: "check", hidden: true }, "Unmasking", this.way);
		this.player = make("div", { class: "timeline", hidden: true },
			this.controls.row, make("div", "row spread", this.controls.words, make("label", "check", this.loop, "loop")), this.strip, this.unmasking);
		this.screen = make("div", { class: "frame", hidden: true }, this.canvas);
		this.actions = make("div", "actions");
		this.element = make("div", "view", this.composer.element,
			make("section", { class: "work", "aria-label": "Clip" },
				make("p", "lead", "A clip is drawn in slots, each some frames long, all at once: the row below shows their key frames, grey where nothing is revealed yet."),
				this.painter.toolbar, this.screen, this.player, this.report.element, this.actions));
		this.composer.choose("new");
	}

	/** Another thing to draw was chosen. */
	chosen() {
		const { mode } = this.composer;
		this.wells.hidden = mode !== "new";
		this.painter.toolbar.hidden = mode !== "paint";
		this.canvas.setAttribute("role", mode === "paint" ? "application" : "img");
		if (mode === "paint") this.stop();
		else this.paint();
	}

	/** How many frames there are; on the way there are key frames alone. */
	get count() {
		return this.clip ? Number(this.clip.video.frames) : this.slots;
	}

	/** The frames that follow each key frame. */
	get slot() {
		return this.slots > 1 ? (this.count - 1) / (this.slots - 1) : 1;
	}

	/** Whether what is shown is on its way, or as it was then. */
	get partly() {
		return Number(this.way.value) < this.strips.length;
	}

	/** Whether the frame that is shown can be painted on. */
	get paints() {
		const [from, to] = this._span();
		return this.composer.mode === "paint" && this.clip !== null && !this.partly && !this.tick && this.frame >= from && this.frame <= to;
	}

	/** @param {number} frame */
	go(frame) {
		this.frame = Math.max(0, Math.min(frame, this.count - 1));
		this.stop();
	}

	start() {
		if (!this.clip) return;
		const began = performance.now(), from = this.frame >= this.count - 1 ? 0 : this.frame;
		this.way.value = this.way.max;
		const tick = (/** @type {number} */ now) => {
			const frame = from + Math.floor((Math.max(0, now - began) / 1000) * Number(this.clip?.video.fps));
			if (frame >= this.count && !this.loop.checked) return this.go(this.count - 1);
			this.frame = frame % this.count;
			this.tick = requestAnimationFrame(tick);
			this.paint();
		};
		cancelAnimationFrame(this.tick);
		this.tick = requestAnimationFrame(tick);
		this.paint();
	}

	stop() {
		cancelAnimationFrame(this.tick);
		this.tick = 0;
		this.paint();
	}

	/** Draw frame `at` of the clip. @param {Pen} pen @param {number} at @param {number} size */
	_frame(pen, at, size = pen.canvas.width) {
		if (!this.clip) return;
		const { sheet, width, height } = this.clip, columns = sheet.width / width;
		pen.drawImage(sheet, (at % columns) * width, Math.floor(at / columns) * height, width, height, 0, 0, size, (size * height) / width);
	}

	/** Draw slot `at` as it was. @param {Pen} pen @param {number} at */
	_slot(pen, at) {
		const strip = this.strips[Number(this.way.value)], width = strip.width / this.slots;
		pen.drawImage(strip, at * width, 0, width, strip.height, 0, 0, pen.canvas.width, pen.canvas.height);
	}

	paint() {
		const shown = this.partly ? this.strips[0] : this.clip;
		if (!shown || !this.player) return;
		const width = this.partly ? this.strips[0].width / this.slots : shown.width, { height } = shown;
		const scale = Math.max(1, Math.floor(512 / width));
		Object.assign(this.canvas, { width: width * scale, height: height * scale });
		const pen = context(this.canvas);
		pen.imageSmoothingEnabled = false;
		const slot = Math.ceil(this.frame / this.slot);
		if (this.partly) this._slot(pen, slot);
		else this._frame(pen, this.frame);
		const [from, to] = this._span();
		if (this.paints) {
			pen.scale(scale, scale);
			this.painter.paint(pen);
		}
		this.span.textContent = `frames ${from + 1} to ${to + 1}`;
		this.player.hidden = this.screen.hidden = false;
		const words = this.clip ? `Frame ${this.frame + 1} of ${this.count} · ${(this.frame / this.clip.video.fps).toFixed(2)} s` : `Slot ${slot + 1} of ${this.slots}`;
		this.controls.tell(this.tick > 0, this.frame, this.count - 1, words);
		this.canvas.setAttribute("aria-label", this.composer.mode === "paint" ? `${words}. Arrow keys move the brush, Space paints, Control and Z undoes.` : words);
		this.unmasking.hidden = !this.strips.length;
		this._slots(slot);
	}

	/** The row of slots. @param {number} current */
	_slots(current) {
		while (this.strip.children.length > this.slots) this.strip.lastChild?.remove();
		for (let at = this.strip.children.length; at < this.slots; at += 1) {
			put(this.strip, make("button", { onclick: () => this.go(Math.round(at * this.slot)) }, make("canvas", { width: 64, height: 64, "aria-hidden": "true" })));
		}
		for (const [at, button] of [...this.strip.children].entries()) {
			button.setAttribute("aria-label", `Slot ${at + 1}`);
			button.setAttribute("aria-current", String(at === current));
			const pen = context(/** @type {HTMLCanvasElement} */ (button.firstChild));
			pen.imageSmoothingEnabled = false;
			if (this.partly) this._slot(pen, at);
			else this._frame(pen, Math.round(at * this.slot), 64);
		}
	}

	/** The frames that a mask is for. */
	_span() {
		const ends = [Number(this.from.value), Number(this.to.value)];
		return [Math.min(...ends), Math.max(...ends)];
	}

	/** The request that the form asks for. */
	async _order() {
		const { route: path, mode } = this.composer, body = this.composer.read();
		/** @type {Record<string, Blob>} */
		const files = {};
		if (mode === "new") {
			if (this.first.given) files.input_reference = this.first.given.blob;
			if (this.last.given) files.last_reference = this.last.given.blob;
			return { path, body, files };
		}
		if (!this.clip) throw new Error("There is no clip yet: draw one first, or take one of the history.");
		body.video = { id: this.clip.video.id };
		if (mode === "paint") {
			const drawn = this.painter.drawn(), none = filled(drawn.width, drawn.height, "black"), [from, to] = this._span();
			const masks = Array.from({ length: this.count }, (_, i) => (i >= from && i <= to ? drawn : none));
			files.mask = await animated(masks, Number(this.clip.video.fps));
		}
		return { path, body, files };
	}

	async draw() {
		const { clip } = this;
		const failed = () => {
			this.strips = [];
			this.way.max = "0";
			this.clip = clip; // what was there before
			if (clip) this.slots = clip.video.slots;
			this.frame = 0;
			this.paint();
		};
		await this.composer.run(this.report, (signal) => this._draw(signal), { retry: () => this.draw(), failed });
	}

	/** @param {AbortSignal} signal */
	async _draw(signal) {
		this.stop();
		const order = await this._order(), sent = performance.now();
		this.strips = [];
		const video = await this._follow(order, signal);
		const seconds = (performance.now() - sent) / 1000;
		const sheet = await this._content(video.id, "spritesheet", signal);
		await this._show(video, sheet);
		this.report.say(`${video.frames} frames, ${video.seconds} s long, drawn in ${seconds.toFixed(2)} s with seed ${video.seed}.`);
		this.report.warn(video.warnings, this.composer);
		const { path, body, files } = order;
		this._offer(await this.studio.keep({ when: Date.now(), path, files, body, values: video, blob: await this._still(), trace: null, sheet }));
		if (!isStill()) this.start();
	}

	/** @param {string} id @param {string} variant @param {AbortSignal} [signal] */
	async _content(id, variant, signal) {
		return (await send(`${VIDEOS}/${id}/content?variant=${variant}`, { signal })).blob();
	}

	/** The finished video. A server that goes away takes it up again: so do we. @param {Order} order @param {AbortSignal} signal */
	async _follow({ path, body, files }, signal) {
		let video = /** @type {Values} */ ({}), busy = Promise.resolve();
		const asking = new AbortController();
		// A clip that is cancelled has to go: once its name is told, and as soon as the server is there.
		const remove = async () => {
			asking.abort();
			while (await send(`${VIDEOS}/${video.id}`, { method: "DELETE" }).then(() => false, isAway)) await pause();
		};
		const cancelled = new Promise((_, reject) => signal.addEventListener("abort", () => {
			if (video.id) remove();
			reject(signal.reason);
		}));
		const take = (/** @type {any} */ event) => {
			if (event.type.endsWith(".preview")) {
				busy = busy.then(async () => {
					const strip = await createImageBitmap(new Blob([bytes(event.b64_json)]));
					if (!signal.aborted) this._strip(strip, video);
				});
			} else if (event.video) {
				video = event.video;
				if (signal.aborted) remove();
				else this.report.say(video.status === "queued" ? "Waiting …" : `${video.progress} % are drawn …`);
			}
		};
		for (;;) {
			try {
				await Promise.race([cancelled, video.id ? hear(`${VIDEOS}/${video.id}/events`, asking.signal, take)
					: hear(path, asking.signal, take, { ...body, stream: true, previews: PREVIEWS }, files)]);
				await busy;
				if (!this.composer.card.grid) await this.studio.cardOf(this.composer.card.id).then(() => this.composer.build()); // it is loaded now
				return video;
			} catch (error) {
				if (!video.id || !isAway(error)) throw error;
				this.report.say("The server is gone. It keeps the clip, and goes on when it is back …");
				this.studio.watch();
				await Promise.race([cancelled, pause()]);
			}
		}
	}

	/** @param {ImageBitmap} strip @param {Values} video */
	_strip(strip, video) {
		const [width, height] = video.size.split("x").map(Number);
		if (!this.strips.length) this.clip = null;
		this.strips.push(strip);
		this.slots = Math.round((strip.width * height) / (strip.height * width));
		this.frame = Math.min(this.frame, this.slots - 1);
		this.way.max = String(this.strips.length);
		this.way.value = String(this.strips.length - 1);
		this.paint();
	}

	/** @param {Values} video @param {Blob} blob */
	async _show(video, blob) {
		const [width, height] = video.size.split("x").map(Number);
		const sheet = await createImageBitmap(blob), { slot } = this.studio.cards.find(({ id }) => id === video.model) ?? {};
		this.clip = { video, sheet, width, height };
		this.slots = video.slots ??= slot ? (video.frames - 1) / slot + 1 : this.slots; // kept: the model may be unknown later
		this.frame = 0;
		this.way.max = this.way.value = String(this.strips.length);
		this.painter.clean(width, height);
		this.from.max = this.to.max = String(this.count - 1);
		this.from.value = "0";
		this.to.value = this.to.max;
		this.go(0);
	}

	/** The frame in the middle, as a picture. */
	_still() {
		const { width = 1, height = 1 } = this.clip ?? {}, canvas = blank(width, height);
		this._frame(context(canvas), Math.floor(this.count / 2));
		return asFile(canvas);
	}

	/** @param {Entry} entry */
	_offer(entry) {
		const { id, output_format } = entry.values, row = make("div", "row", make("span", "hint", "Save"));
		const files = { [output_format]: "video", sheet: "spritesheet" };
		for (const [kind, variant] of Object.entries(files)) {
			put(row, quiet(kind.toUpperCase(), () => this._save(id, variant, `${nameOf(entry.body)}.${kind === "sheet" ? "png" : kind}`), `Download as ${kind}`));
		}
		put(row, ...copies(this.studio, entry, "clips"));
		this.actions.replaceChildren(row);
	}

	/** @param {string} id @param {string} variant @param {string} name */
	async _save(id, variant, name) {
		try {
			save(await this._content(id, variant), name);
		} catch (error) {
			this.report.fail(error, [], () => this._save(id, variant, name));
		}
	}

	/** Show a clip that a history keeps; a picture is what a clip begins with, or ends. @param {Entry} entry */
	async open(entry) {
		if (!entry.sheet) {
			await (this.first.given ? this.last : this.first).take(entry.blob);
			this.composer.choice.choose("new");
			return;
		}
		this.composer.write({ ...entry.body, model: entry.values.model });
		this.strips = [];
		await this._show(entry.values, entry.sheet);
		this.report.say(`Seed ${entry.values.seed}.`);
		this._offer(entry);
	}

	/** @param {Values} settings */
	write(settings) {
		this.composer.write(settings);
	}

	/** What a link to this view holds; no picture and no clip is in it. */
	settings() {
		return this.composer.settings();
	}
}

/** Whether a model draws clips; one that is not loaded yet may. @param {Values} card */
export function drawsClips(card) {
	return Boolean(card.frames) || !card.grid;
}

/** A canvas of one colour, or with a picture over all of it, cut as the server cuts it. @param {number} width @param {number} height @param {string} colour @param {ImageBitmap} [picture] */
function filled(width, height, colour, picture) {
	const canvas = blank(width, height), pen = context(canvas);
	pen.fillStyle = colour;
	pen.fillRect(0, 0, width, height);
	if (!picture) return canvas;
	const scale = Math.max(width / picture.width, height / picture.height), w = picture.width * scale, h = picture.height * scale;
	pen.drawImage(picture, (width - w) / 2, (height - h) / 2, w, h);
	return canvas;
}
