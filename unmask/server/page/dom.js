// Small helpers around the document. Text is only ever set as text: nothing here parses HTML.

/**
 * An element with properties (or attributes, where a name has a dash or is "role", "for", "list") and children; text
 * instead of properties is its class. A button sends no form unless it says so.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string | Values} [properties]
 * @param {...Child} children
 */
export function make(tag, properties = {}, ...children) {
	const element = document.createElement(tag);
	const given = typeof properties === "string" ? { class: properties } : properties;
	for (const [name, value] of Object.entries(tag === "button" ? { type: tag, ...given } : given)) {
		if (value === undefined || value === null) continue;
		if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
		else if (name.includes("-") || ["role", "for", "list"].includes(name)) element.setAttribute(name, String(value));
		else Reflect.set(element, name === "class" ? "className" : name, value);
	}
	put(element, ...children);
	return element;
}

/** Add children, passing over those that are nothing. @param {Element} parent @param {...Child} children */
export function put(parent, ...children) {
	for (const child of children) if (child || child === "") parent.append(child);
}

/** A button that stands back. @param {string} words @param {() => void} onclick @param {string} [label] what it does, where its words do not say it */
export function quiet(words, onclick, label) {
	return make("button", { class: "quiet", "aria-label": label, onclick }, words);
}

/**
 * The element with that id, which must be there and of that class.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 */
export function byId(id, kind) {
	const element = document.getElementById(id);
	if (!(element instanceof kind)) throw new Error(`there is no ${kind.name} #${id}`);
	return element;
}

/** The drawing context of a canvas. @param {HTMLCanvasElement} canvas @param {boolean} [read] whether its pixels are read often */
export function context(canvas, read = false) {
	const found = canvas.getContext("2d", { willReadFrequently: read });
	if (!found) throw new Error("this browser draws on no canvas");
	return found;
}

/** A canvas that is not on the page. @param {number} width @param {number} height */
export function blank(width, height) {
	return make("canvas", { width, height });
}

/** Whether the person asked for less motion. */
export function isStill() {
	return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** Where an arrow key points, to the right and down. @param {string} key @returns {[number, number] | undefined} */
export function arrow(key) {
	return /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] })[key];
}

let lastNumber = 0;

/** An id that no other element has. */
export function fresh() {
	lastNumber += 1;
	return `u${lastNumber}`;
}

/**
 * A group of choices of which one holds.
 * @param {string} label
 * @param {Record<string, string>} choices shown text by value
 * @param {string} chosen
 * @param {(value: string) => void} onChange
 */
export function segments(label, choices, chosen, onChange) {
	const name = fresh();
	/** @type {Record<string, HTMLInputElement>} */
	const inputs = {};
	const element = make("fieldset", "segments", make("legend", "unseen", label));
	for (const [value, text] of Object.entries(choices)) {
		inputs[value] = make("input", { type: "radio", name, value, checked: value === chosen, onchange: () => onChange(value) });
		put(element, make("label", {}, inputs[value], make("span", {}, text)));
	}
	const choose = (/** @type {string} */ value) => {
		if (inputs[value]) inputs[value].checked = true;
		onChange(value);
	};
	return { element, choose };
}
