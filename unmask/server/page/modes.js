// The form of a view that can ask for several things, each with a route and fields of its own.

import { Composer } from "./composer.js";
import { make, put, segments } from "./dom.js";
import { Fields, optionsOf } from "./fields.js";

/** @typedef {{label: string, verb: string, path: string, fields: string[], says: string}} Mode what its button says; where it goes */

export class ModesComposer extends Composer {
	/**
	 * @param {Studio} studio
	 * @param {Record<string, Mode>} modes the first is chosen
	 * @param {{label: string, without: string[], fits?: (card: Values) => boolean}} about
	 * @param {() => Values} defaults of the fields of a mode
	 * @param {() => void} onChoose
	 * @param {() => void} onSubmit
	 */
	constructor(studio, modes, { label, ...about }, defaults, onChoose, onSubmit) {
		const [[mode, { path, verb }]] = Object.entries(modes);
		super(studio, `/${path}`, { verb, ...about }, onSubmit);
		this.modes = modes;
		this.mode = mode;
		this.defaults = defaults;
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
		const given = this.own.read();
		this.own = new Fields(optionsOf(this.studio.document, `/${path}`, this.card), fields);
		this.own.write({ ...this.defaults(), ...given });
		this.ownHolder.replaceChildren(this.own.element);
		this.says.textContent = says;
		this.button.textContent = verb;
		this.onChoose();
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
		if (this.modes[values.mode]) this.choice.choose(values.mode);
		this.own.write({ ...this.own.read(), ...values });
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
