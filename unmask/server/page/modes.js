// The form of a view that can ask for several things, each with a route and fields of its own.

import { Composer } from "./composer.js";
import { make, put, segments } from "./dom.js";
import { Fields, optionsOf } from "./fields.js";

export class ModesComposer extends Composer {
	/**
	 * @param {Studio} studio
	 * @param {Record<string, Mode>} modes the first is chosen
	 * @param {Omit<About, "verb"> & {label: string}} about
	 * @param {Values} kept what the fields of all modes hold at first
	 * @param {() => void} onChoose
	 * @param {() => void} onSubmit
	 */
	constructor(studio, modes, { label, ...about }, kept, onChoose, onSubmit) {
		const [[mode, { path, verb }]] = Object.entries(modes);
		super(studio, `/${path}`, { verb, ...about }, onSubmit);
		this.modes = modes;
		this.mode = mode;
		this.kept = kept;
		this.onChoose = onChoose;
		this.own = new Fields([]);
		this.says = make("p", "hint");
		this.ownHolder = make("div", "fields");
		this.choice = segments(label, Object.fromEntries(Object.entries(modes).map(([name, held]) => [name, held.label])), mode, (name) => this.choose(name));
		put(this.extra, this.choice.element, this.says, this.ownHolder);
	}

	/** @param {string} mode */
	choose(mode) {
		const { verb, path, fields, says } = this.modes[mode];
		this.mode = mode;
		this.set({});
		this.own = new Fields(optionsOf(this.studio.document, `/${path}`, this.card), fields);
		this.own.write(this.kept);
		this.ownHolder.replaceChildren(this.own.element);
		this.says.textContent = says;
		this.button.textContent = verb;
		this.onChoose();
	}

	/** Give fields of modes other values; they are kept while another mode is chosen. @param {Values} values */
	set(values) {
		for (const [name, { value }] of this.own.fields) this.kept[name] = value;
		Object.assign(this.kept, values);
		this.own.write(this.kept);
	}

	/** Where the mode sends its request. */
	get route() {
		return this.modes[this.mode].path;
	}

	read() {
		return { ...super.read(), ...this.own.read() };
	}

	/** @param {Values} values */
	write(values) {
		super.write(values);
		this.set(values);
		this.choice.choose(this.modes[values.mode] ? values.mode : this.mode);
	}

	settings() {
		return { ...super.settings(), ...this.own.read(), mode: this.mode };
	}

	clearFaults() {
		super.clearFaults();
		this.own.clearFaults();
	}

	/** @param {string | null} name @param {string} words */
	fault(name, words) {
		return this.own.fault(name, words) || super.fault(name, words);
	}
}
