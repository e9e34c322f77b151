// The race: one prompt and seed through several settings, side by side.

import { Composer } from "./composer.js";
import { isStill, make, put, quiet } from "./dom.js";
import { Report, request } from "./drawing.js";
import { Fields, optionsOf, title } from "./fields.js";
import { asLink } from "./files.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { blankOf } from "./trace.js";

const PATH = "v1/images/generations";
const SHARED = ["seed", "negative_prompt"];
const SHOWN = ["scheduler", "steps", "guidance_scale"]; // of a lane; others can be added
const NOT_RACED = ["prompt", "model", "n", "size", "quality", "priority", "subjects", "strict_prompt", ...SHARED];
const FEWEST = 2, MOST = 6;

/** One setting and what it draws. */
class Lane {
	/** @param {RaceView} race @param {Values} values */
	constructor(race, values) {
		this.race = race;
		this.stage = new Stage("Lane");
		this.figures = make("p", "figures");
		this.verdict = make("p", "verdict");
		this.title = make("h2");
		this.more = make("select", { "aria-label": "Add an option to this lane", onchange: () => this.add(this.more.value) });
		this.remove = quiet("✕", () => race.remove(this));
		this.options = race.options;
		this.fields = new Fields(this.options, [...new Set([...SHOWN, ...Object.keys(values)])]);
		this.element = make("li", "lane", make("div", "row spread", this.title, this.remove), this.stage.element, this.figures, this.verdict,
			this.fields.element, this.more);
		this.fields.write(values);
		this._offer();
	}

	_offer() {
		const left = this.options.filter(({ name }) => !this.fields.fields.has(name));
		this.more.replaceChildren(make("option", { value: "" }, "another option …"), ...left.map(({ name }) => make("option", { value: name }, title(name))));
	}

	/** @param {string} name */
	add(name) {
		const option = this.options.find((other) => other.name === name);
		if (option) this.fields.add(option, this.fields.element).input.focus();
		this._offer();
	}

	/** @param {number} number */
	name(number) {
		this.title.textContent = `Lane ${number}`;
		this.stage.label = `Lane ${number}`;
		this.remove.setAttribute("aria-label", `Remove lane ${number}`);
		this.fields.element.setAttribute("role", "group");
		this.fields.element.setAttribute("aria-label", `Settings of lane ${number}`);
	}

	/** @param {any} verdict of the model's judge, if it has one */
	judge(verdict) {
		const words = verdict && (verdict.right === undefined ? `no verdict, as ${verdict.reason}` : verdict.right ? "right" : `wrong: ${verdict.faults.join(", ")}`);
		this.verdict.textContent = words ? `Judge: ${words}` : "";
		this.verdict.dataset.right = String(verdict?.right);
	}

	/** @param {Unmasking} image @param {number} seconds */
	tell(image, seconds) {
		const sure = image.frames[image.last].sure.reduce((sum, level) => sum + level, 0) / image.frames[image.last].sure.length / 2.55;
		this.figures.textContent = `${seconds.toFixed(2)} s · ${image.passes.toFixed(1).replace(/\.0$/, "")} passes · ${image.last} steps · ${sure.toFixed(0)} % sure`;
	}
}

export class RaceView {
	/** @param {Studio} studio */
	constructor(studio) {
		this.studio = studio;
		this.composer = new Composer(studio, `/${PATH}`, { verb: "Race", only: SHARED }, () => this.run());
		this.composer.model.addEventListener("change", () => this.write(this.settings()));
		this.report = new Report();
		this.timeline = new Timeline();
		this.list = make("ul", { class: "lanes", "aria-label": "Lanes" });
		this.more = make("button", { onclick: () => this.add({}) }, "Add a lane");
		this.link = quiet("Link to this race", () => studio.code("Copy as link", asLink("race", this.settings())));
		/** @type {Lane[]} */
		this.lanes = [];
		this.element = make("div", "view", this.composer.element,
			make("section", { class: "work wide", "aria-label": "Lanes" },
				make("p", "lead", "The same prompt and seed through several settings. Each lane is drawn alone, so its seconds are its own; then all are shown again, side by side, by the clock."),
				this.timeline.element, this.report.element, this.list, make("div", "row", this.more, this.link)));
		const schedulers = /** @type {string[]} */ (this.composer.card.schedulers ?? []);
		const first = ["random", "confidence", "p2"].filter((name) => schedulers.includes(name));
		this._fill((first.length > 1 ? first : schedulers.slice(0, 3)).map((scheduler) => ({ scheduler })));
	}

	/** The options that may differ from lane to lane. */
	get options() {
		return optionsOf(this.studio.document, `/${PATH}`, this.composer.card).filter(({ name }) => !NOT_RACED.includes(name));
	}

	/** @param {Values} values */
	add(values) {
		if (this.lanes.length >= MOST) return;
		const lane = new Lane(this, values);
		const image = blankOf(this.composer.card);
		if (image) lane.stage.open(image);
		this.lanes.push(lane);
		put(this.list, lane.element);
		this._count();
	}

	/** @param {Lane} lane */
	remove(lane) {
		this.lanes = this.lanes.filter((other) => other !== lane);
		lane.element.remove();
		this._count();
	}

	_count() {
		this.lanes.forEach((lane, i) => {
			lane.name(i + 1);
			lane.remove.disabled = this.lanes.length <= FEWEST;
		});
		this.more.disabled = this.lanes.length >= MOST;
		this.timeline.follow(this.lanes.map((lane) => lane.stage), true);
	}

	async run() {
		const body = this.composer.read();
		this.timeline.stop();
		for (const lane of this.lanes) {
			lane.figures.textContent = "";
			lane.judge(null);
			lane.fields.clearFaults();
		}
		let running = this.lanes[0], warnings = /** @type {any} */ (null);
		await this.composer.run(this.report, async (signal) => {
			for (const [i, lane] of this.lanes.entries()) {
				running = lane;
				lane.element.setAttribute("aria-busy", "true");
				const order = { path: PATH, body: { ...body, ...lane.fields.read() }, files: {}, judge: Boolean(this.composer.card.judge), name: `Lane ${i + 1} of ${this.lanes.length}: ` };
				const { results, seconds } = await request(order, this, signal, {
					begun: ([image]) => lane.stage.open(image),
					changed: (image) => lane.stage.at(image.last),
				});
				lane.tell(results[0].unmasking, seconds);
				lane.judge(results[0].values.verdict);
				warnings = results[0].values.warnings;
				lane.element.removeAttribute("aria-busy");
				await this.studio.remember(order, results[0]);
			}
			this.report.say(`All ${this.lanes.length} lanes are drawn, with seed ${body.seed}.`);
			this.report.warn(warnings, this.composer);
			this.timeline.follow(this.lanes.map((lane) => lane.stage), true);
			if (isStill()) this.timeline.leap();
			else this.timeline.start();
		}, { retry: () => this.run(), fields: () => [running.fields], failed: () => running.element.removeAttribute("aria-busy") });
	}

	/** @param {Values} settings */
	write(settings) {
		this.composer.write(settings);
		if (!Array.isArray(settings.lanes)) return;
		for (const lane of this.lanes) lane.element.remove();
		this.lanes = [];
		this._fill(settings.lanes);
	}

	/** @param {Values[]} lanes */
	_fill(lanes) {
		for (const values of lanes.slice(0, MOST)) this.add(values && typeof values === "object" ? values : {});
		while (this.lanes.length < FEWEST) this.add({});
	}

	/** What a link to this race holds. */
	settings() {
		return { ...this.composer.settings(), lanes: this.lanes.map((lane) => lane.fields.read()) };
	}

	/** @param {Entry} entry */
	async open(entry) {
		this.composer.write(entry.body);
	}
}
