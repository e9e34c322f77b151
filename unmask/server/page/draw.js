// The view that draws: a form, and the pictures as they are unmasked.

import { Composer } from "./composer.js";
import { make, put } from "./dom.js";
import { Report, dice, request } from "./drawing.js";
import { asFile } from "./files.js";
import { Mask } from "./mask.js";
import { resultActions } from "./results.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { Unmasking, blankOf, stillOf } from "./trace.js";

const PATH = "v1/images/generations";
const EDITS = "v1/images/edits";

export class DrawView {
	/** @param {Studio} studio */
	constructor(studio) {
		this.studio = studio;
		this.composer = new Composer(studio, `/${PATH}`, { verb: "Draw" }, () => this.draw());
		this.report = new Report();
		this.timeline = new Timeline();
		this.stages = make("div", "stages");
		this.actions = make("div", "actions");
		this.element = make("div", "view", this.composer.element,
			make("section", { class: "work", "aria-label": "Pictures" },
				make("p", "lead", "Every picture begins as masked cells. At each step the model guesses all of them at once and reveals some; ",
					"a dot grows with how sure it is of its guess. Drag the slider to go back, click a cell to have it drawn again."),
				this.stages, this.timeline.element, this.report.element, this.actions));
		/** @type {(Entry | null)[]} */
		this.entries = [];
		this.blank();
	}

	/** Show a grid of masked cells, as before the first step. */
	blank() {
		const image = blankOf(this.composer.card);
		if (image) this.show([image]);
	}

	/** @param {Unmasking[]} images */
	show(images) {
		const stages = images.map((image, index) => {
			const stage = new Stage(images.length > 1 ? `Picture ${index + 1}` : "Picture", (places) => this.again(index, places));
			stage.open(image);
			return stage;
		});
		this.stages.replaceChildren(...stages.map((stage) => stage.element));
		this.stages.dataset.count = String(stages.length);
		this.timeline.follow(stages);
		return stages;
	}

	async draw() {
		const body = this.composer.read();
		await this.run({ path: PATH, body, files: {} }, null, () => this.draw());
	}

	/** Draw cells of a picture again. @param {number} index @param {number[]} places */
	async again(index, places) {
		const entry = this.entries[index];
		const shown = this.timeline.stages[index]?.unmasking;
		if (!entry || !shown?.picture || this.composer.button.disabled) return;
		// What has no place in an edit of the whole picture goes.
		const { size, n, quality, strength, share, left, right, top, bottom, ...kept } = entry.body;
		const mask = new Mask(shown.width, shown.height, Infinity);
		for (const place of places) mask.box((place % shown.columns) * shown.cell, Math.floor(place / shown.columns) * shown.cell, shown.cell);
		const files = { image: entry.blob, mask: await asFile(mask.drawn()) };
		const body = { ...kept, seed: dice(), mask_mode: "white" };
		/** @type {Order} */
		const order = { path: EDITS, body, files, size: [shown.width, shown.height], base: shown.picture };
		await this.run(order, index, () => this.again(index, places));
	}

	/** @param {Order} order @param {number | null} only the stage that shows it; null: all are made anew @param {() => void} retry */
	async run(order, only, retry) {
		/** @type {Unmasking[]} */
		let images = [];
		await this.composer.run(this.report, async (signal) => {
			const { results, seconds } = await request(order, this, signal, {
				begun: (begun) => {
					images = begun;
					if (only === null) {
						this.entries = [];
						this.actions.replaceChildren();
						this.show(images);
					} else {
						this.timeline.stages[only].open(images[0]);
						this.timeline.follow([this.timeline.stages[only]]);
					}
					this.timeline.begin();
				},
				changed: () => this.timeline.stages.forEach((stage) => stage.paint()),
			});
			this.timeline.finish();
			const entries = await Promise.all(results.map((result) => this.studio.remember(order, result)));
			if (only === null) this.entries = entries;
			else [this.entries[only]] = entries;
			const passes = images.reduce((sum, image) => sum + image.passes, 0);
			this.report.say(`Drawn in ${seconds.toFixed(2)} s, ${Math.round(passes)} passes of the model, seed ${order.body.seed}.`);
			this.report.warn(results[0].values.warnings, this.composer);
			this.offer(only ?? 0);
		}, { retry, failed: () => this.timeline.finish() });
	}

	/** @param {number} index of the picture that can be saved and edited */
	offer(index) {
		this.actions.replaceChildren();
		const entry = this.entries[index];
		if (!entry) return;
		if (this.entries.length > 1) {
			const choice = make("select", { "aria-label": "Which picture", onchange: () => this.offer(Number(choice.value)) });
			this.entries.forEach((_, i) => put(choice, make("option", { value: String(i), selected: i === index }, `Picture ${i + 1}`)));
			put(this.actions, choice);
		}
		put(this.actions, resultActions(this.studio, entry, "draw"));
	}

	/** Show what a history keeps. @param {Entry} entry */
	async open(entry) {
		const picture = await createImageBitmap(entry.blob);
		const { image } = entry.files, base = image ? await createImageBitmap(image) : null;
		this.entries = [entry];
		this.composer.write(entry.body);
		const unmasking = entry.trace ? Unmasking.unpack(entry.trace, picture, base, entry.corner) : stillOf(picture, this.composer.card);
		this.show([unmasking]);
		this.timeline.leap();
		this.report.say("seed" in entry.body ? `Seed ${entry.body.seed}.` : "This file does not tell how it was drawn.");
		this.offer(0);
	}

	/** @param {Values} settings */
	write(settings) {
		this.composer.write(settings);
	}

	/** What a link to this view holds. */
	settings() {
		return this.composer.settings();
	}
}
