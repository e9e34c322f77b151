// Fields made from the server's own description: what a request may say, within which bounds, and of which choices.
// No option is listed here. PLACED only says where some well-known ones stand.

import { fresh, make, put } from "./dom.js";

// The page itself decides these, or shows them in places of their own.
const OWN = ["prompt", "model", "stream", "partial_images", "trace", "judge", "response_format", "output_format", "output_compression",
	"background", "image", "mask", "mask_mode", "user", "safety_identifier", "num_inference_steps"];
const PLACED = ["negative_prompt", "scheduler", "steps", "guidance_scale", "n", "size", "seed"];

/** The options of a route, by its schema in /openapi.json and the bounds in a model's card. @param {any} document @param {string} path @param {Values} card @returns {Option[]} */
export function optionsOf(document, path, card) {
	const content = document.paths[path].post.requestBody.content;
	const schema = (content["multipart/form-data"] ?? content["application/json"]).schema;
	return Object.entries(schema.properties)
		.map(([name, property]) => optionOf(name, /** @type {Values} */ (property), card))
		.filter(({ name, types, meaning }) => !OWN.includes(name) && types.length && !meaning.startsWith("a hint"));
}

/** @param {string} name @param {Values} property @param {Values} card @returns {Option} */
function optionOf(name, property, card) {
	const parts = (property.anyOf ?? [property]).filter((/** @type {Values} */ part) => part.type !== "null" && !part.format);
	const schema = parts[0] ?? {};
	const bound = { ...card.bounds?.[name], ...schema };
	if (name === "steps" && card.max_steps) bound.maximum = card.max_steps;
	if (name === "n" && card.max_n) bound.maximum = card.max_n;
	const known = card[`${name}s`] ?? card[name.replace(/y$/, "ies")]; // schedulers, reuse_policies: those of this model
	const choices = (Array.isArray(known) ? known : undefined) ?? bound.enum;
	const types = parts.map((/** @type {Values} */ part) => part.type).filter(Boolean);
	const owners = property["x-owners"] ?? [];
	return { name, types, meaning: property.description ?? "", schema, owners, bound: { ...bound, enum: choices } };
}

/** @param {string} name */
export function title(name) {
	const words = name.replaceAll("_", " ");
	return name === "n" ? "Pictures" : words[0].toUpperCase() + words.slice(1);
}

/** One labelled field. */
class Field {
	/** @param {Option} option */
	constructor(option) {
		this.option = option;
		const id = fresh();
		this.input = control(option, id);
		this.error = make("p", { class: "fault", id: `${id}-fault`, hidden: true });
		const hint = make("p", { class: "hint", id: `${id}-hint` }, hintOf(option));
		this.input.setAttribute("aria-describedby", `${hint.id} ${this.error.id}`);
		this.row = make("div", "inline", this.input);
		this.element = make("div", { class: this.input.type === "number" && option.bound.maximum > 1 ? "field half" : "field" }, make("label", { for: id }, title(option.name)), this.row, this.error, hint);
		if (lowest(option.bound) !== undefined && option.bound.maximum <= 1 && option.types.includes("number")) this._slide();
		this.input.addEventListener("input", () => this.fault(""));
	}

	/** A slider beside a number between 0 and 1. */
	_slide() {
		const slider = make("input", { type: "range", min: this.option.bound.minimum ?? "0.05", max: "1", step: "0.05", value: this.input.value || "0.5", "aria-label": `${title(this.option.name)}, by a slider` });
		slider.addEventListener("input", () => {
			this.input.value = slider.value;
			this.fault("");
		});
		this.input.addEventListener("input", () => (slider.value = this.input.value));
		put(this.row, slider);
	}

	/** What is given, in its type; undefined: nothing. @returns {unknown} */
	get value() {
		const text = this.input.value.trim(), { types } = this.option;
		if (text === "") return undefined;
		if (types.includes("boolean")) return text === "true";
		if (types.includes("integer") || types.includes("number")) {
			// Digits that a number here would lose are sent as they were written.
			return /^\d{16,}$/.test(text) ? text : Number.isNaN(Number(text)) ? text : Number(text);
		}
		if (types.includes("array")) return list(text);
		return this.input.value;
	}

	/** @param {unknown} value */
	set value(value) {
		const text = value === undefined || value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
		if (this.input instanceof HTMLSelectElement && text && ![...this.input.options].some((option) => option.value === text)) {
			put(this.input, make("option", { value: text }, text));
		}
		this.input.value = text;
		this.input.dispatchEvent(new Event("input"));
		this.input.dispatchEvent(new Event("change"));
	}

	/** @param {string} message */
	fault(message) {
		this.error.textContent = message;
		this.error.hidden = !message;
		this.input.setAttribute("aria-invalid", String(Boolean(message)));
	}
}

/** @param {string} text */
function list(text) {
	try {
		return JSON.parse(text.startsWith("[") ? text : `[${text}]`);
	} catch {
		return text; // the server says what is wrong with it
	}
}

/** @param {Values} bound */
function lowest(bound) {
	return bound.minimum ?? bound.exclusiveMinimum;
}

/** @param {Option} option */
function hintOf({ meaning, bound, types }) {
	const low = lowest(bound);
	const told = [` to ${bound.maximum}`, `, ${bound.maximum}]`].some((words) => meaning.includes(words)) || !(bound.maximum <= 1e5); // a bound that nobody meets says nothing
	const range = low !== undefined && !told ? ` ${low} to ${bound.maximum}.` : "";
	const words = meaning.replace(/ \([a-z_]+ [^)]*\)$/, "");
	const begin = /^[a-z] /.test(words) ? words : words.slice(0, 1).toUpperCase() + words.slice(1); // s is a number's name
	return `${words ? `${begin}.` : ""}${range}${types.includes("array") ? " A list, as in JSON." : ""}`;
}

/** @param {Option} option @param {string} id @returns {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} */
function control({ name, types, bound }, id) {
	const shared = { id, name, spellcheck: false, autocomplete: "off" };
	const choices = bound.enum ?? (types.includes("boolean") ? ["true", "false"] : null);
	if (choices) {
		return make("select", shared, make("option", { value: "" }, "auto"),
			...choices.map((/** @type {string} */ choice) => make("option", { value: choice }, choice)));
	}
	if (name.endsWith("prompt")) return make("textarea", { ...shared, rows: 2 });
	const number = (types.includes("integer") || types.includes("number")) && name !== "seed";
	return make("input", { ...shared, type: number ? "number" : "text", inputMode: name === "seed" ? "numeric" : "", placeholder: "auto",
		min: lowest(bound), max: bound.maximum, step: types.includes("number") ? "any" : undefined });
}

/** Fields for a list of options. */
export class Fields {
	/** @param {Option[]} options @param {string[]} [only] of these names, in their order; else all: the well-known first, then the rest, folded away */
	constructor(options, only) {
		/** @type {Map<string, Field>} */
		this.fields = new Map();
		this.element = make("div", "fields");
		const shown = only ?? PLACED;
		const named = new Map(options.map((option) => [option.name, option]));
		for (const name of shown) {
			const option = named.get(name);
			if (option) this.add(option, this.element);
		}
		if (!only) this._rest(options.filter((option) => !this.fields.has(option.name)));
	}

	/** @param {Option[]} options */
	_rest(options) {
		if (!options.length) return;
		const inner = make("div", "fields");
		put(this.element, make("details", {}, make("summary", {}, `All options (${options.length})`), inner));
		for (const option of options) this.add(option, inner);
		for (const field of this.fields.values()) field.input.addEventListener("change", () => this.sort());
		this.sort();
	}

	/** @param {Option} option @param {Element} parent */
	add(option, parent) {
		const field = new Field(option);
		this.fields.set(option.name, field);
		put(parent, field.element);
		return field;
	}

	/** Hide what belongs to methods that are not chosen; where none is, the model chooses, and nothing can be said. */
	sort() {
		for (const { option, element, input } of this.fields.values()) {
			const idle = option.owners.length > 0 && option.owners.every((owner) => {
				const [kind, method] = owner.split(" ");
				const chosen = this.fields.get(kind)?.input.value;
				return Boolean(chosen) && chosen !== method;
			});
			element.hidden = idle && !input.value;
		}
	}

	/** Everything that is given. */
	read() {
		/** @type {Values} */
		const values = {};
		for (const [name, field] of this.fields) if (field.value !== undefined) values[name] = field.value;
		return values;
	}

	/** @param {Values} values those of other names are passed over */
	write(values) {
		for (const [name, field] of this.fields) field.value = values[name];
	}

	/** Show what is wrong with a field, and go there. Whether there is such a field. @param {string | null} name @param {string} message */
	fault(name, message) {
		const field = this.fields.get(name === "num_inference_steps" ? "steps" : (name ?? ""));
		if (!field) return false;
		const folded = field.element.closest("details");
		if (folded) folded.open = true;
		field.element.hidden = false;
		field.fault(message);
		field.input.focus();
		return true;
	}

	clearFaults() {
		for (const field of this.fields.values()) field.fault("");
	}
}
