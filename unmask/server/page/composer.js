// The composer: prompt, model, seed and options of a request, all made from what the server tells.

import { isAway } from "./api.js";
import { dice } from "./drawing.js";
import { fresh, make, put, quiet } from "./dom.js";
import { Fields, optionsOf } from "./fields.js";

/** The form of a view. */
export class Composer {
	/** @param {Studio} studio @param {string} path of the route whose schema it follows @param {About} about @param {() => void} onSubmit */
	constructor(studio, path, { verb, only, without = [], fits = () => true }, onSubmit) {
		this.studio = studio;
		this.path = path;
		this.only = only;
		this.without = without;
		const id = fresh();
		this.prompt = make("textarea", { id, rows: 3, name: "prompt", "aria-describedby": `${id}-fault`, placeholder: "What shall be drawn?" });
		this.promptFault = make("p", { class: "fault", id: `${id}-fault`, hidden: true });
		this.model = make("select", { id: `${id}-model`, name: "model", onchange: () => this.build() });
		this.about = make("p", "hint");
		this.holder = make("div", "fields");
		this.lock = make("input", { type: "checkbox" });
		this.button = make("button", { class: "primary", type: "submit" }, verb);
		this.cancel = make("button", { hidden: true }, "Cancel");
		this.extra = make("div", "fields");
		this.element = make("form", { class: "panel", noValidate: true },
			make("div", "ask",
				make("div", "field", make("label", { for: id }, "Prompt"), this.prompt, this.promptFault),
				make("div", "row", this.button, this.cancel), this.extra),
			make("div", "settings",
				make("div", "field", make("label", { for: `${id}-model` }, "Model"), this.model, this.about),
				this.holder));
		for (const card of studio.cards.filter(fits)) put(this.model, make("option", { value: card.id }, card.id));
		this.prompt.addEventListener("keydown", (event) => {
			if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
				event.preventDefault();
				this.element.requestSubmit();
			}
		});
		this.prompt.addEventListener("input", () => this._promptFault(""));
		this.element.addEventListener("submit", (event) => {
			event.preventDefault();
			if (!this.button.disabled) onSubmit();
		});
		this.fields = new Fields([]);
		this.build();
	}

	/** The card of the model that is chosen. */
	get card() {
		return this.studio.cards.find((card) => card.id === this.model.value) ?? this.studio.cards[0];
	}

	/** Make the fields of the model that is chosen, and keep what was given. */
	build() {
		const given = this.fields.read(), card = this.card;
		const options = optionsOf(this.studio.document, this.path, card).filter((option) => !this.without.includes(option.name));
		this.fields = new Fields(options, this.only);
		this.about.textContent = card.description ?? (card.reason || "It is loaded when it is first asked for.");
		this.holder.replaceChildren(this.fields.element);
		const seed = this.fields.fields.get("seed");
		if (seed) {
			seed.input.addEventListener("change", (event) => (this.lock.checked = event.isTrusted ? Boolean(seed.input.value) : this.lock.checked));
			put(seed.row, quiet("⚄", () => this.roll(), "Another seed"),
				make("label", "check", this.lock, "keep"));
		}
		this.fields.write(given);
	}

	/** Take another seed. */
	roll() {
		const seed = this.fields.fields.get("seed");
		if (seed) seed.value = dice();
		return seed?.value;
	}

	/** What is asked for, with a seed: a kept one, or another each time. */
	read() {
		if (!this.lock.checked || !this.fields.fields.get("seed")?.value) this.roll();
		/** @type {Values} */
		const body = { prompt: this.prompt.value, ...this.fields.read() };
		if (this.studio.cards.length > 1) body.model = this.model.value;
		return body;
	}

	/** What a link holds of it. */
	settings() {
		return { ...this.fields.read(), prompt: this.prompt.value, model: this.model.value };
	}

	/** @param {Values} values what is not among them is left to the model; none: all stays as it is */
	write(values) {
		if (Object.values(values).every((value) => value === undefined)) return;
		if (typeof values.prompt === "string") this.prompt.value = values.prompt;
		if ([...this.model.options].some(({ value }) => value === values.model)) this.model.value = values.model;
		this.build();
		this.fields.write(values);
		this.lock.checked = values.seed !== undefined;
	}

	/** Do what can be cancelled, and tell what goes wrong. @param {Reports} report @param {(signal: AbortSignal) => Promise<void>} does @param {Ends} ends */
	async run(report, does, { retry, fields = () => [], failed = () => {} }) {
		const work = new AbortController(), all = () => [...fields(), this];
		this.button.disabled = true;
		this.cancel.hidden = false;
		this.cancel.onclick = () => {
			work.abort();
			this.prompt.focus();
		};
		for (const some of all()) some.clearFaults();
		report.say("Sending …");
		try {
			await does(work.signal);
		} catch (error) {
			failed();
			report.fail(error, all(), retry);
			if (isAway(error)) this.studio.watch();
		} finally {
			this.button.disabled = false;
			this.cancel.hidden = true;
		}
	}

	clearFaults() {
		this.fields.clearFaults();
		this._promptFault("");
	}

	/** @param {string} words */
	_promptFault(words) {
		this.promptFault.textContent = words;
		this.promptFault.hidden = !words;
		this.prompt.setAttribute("aria-invalid", String(Boolean(words)));
	}

	/** Show what is wrong with a field of it. Whether it has that field. @param {string | null} name @param {string} words */
	fault(name, words) {
		if (name !== "prompt" && name !== "subjects") return this.fields.fault(name, words);
		this._promptFault(words);
		this.prompt.focus();
		return true;
	}
}
