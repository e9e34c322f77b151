// Small helpers around the document. Text is only ever set as text: nothing here parses HTML.

/** @typedef {string | Node | null | undefined | false} Child */

/**
 * An element with properties (or attributes, where a name has a dash or is "role", "for", "list") and children.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [properties]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || ["role", "for", "list"].includes(name)) element.setAttribute(name, String(value));
    else Reflect.set(element, name === "class" ? "className" : name, value);
  }
  put(element, ...children);
  return element;
}

/**
 * Add children, passing over those that are nothing.
 * @param {Element} parent
 * @param {...Child} children
 */
export function put(parent, ...children) {
  for (const child of children) if (child || child === "") parent.append(child);
}

/**
 * The element with that id, which must be there and of that class.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`there is no ${kind.name} #${id}`);
  return element;
}

/**
 * The drawing context of a canvas.
 * @param {HTMLCanvasElement} canvas
 * @param {boolean} [read] whether its pixels are read often
 * @returns {CanvasRenderingContext2D}
 */
export function context(canvas, read = false) {
  const found = canvas.getContext("2d", { willReadFrequently: read });
  if (!found) throw new Error("this browser draws on no canvas");
  return found;
}

/**
 * A canvas that is not on the page.
 * @param {number} width
 * @param {number} height
 */
export function blank(width, height) {
  return make("canvas", { width, height });
}

/** Whether the person asked for less motion. */
export function isStill() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
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
 * @returns {{element: HTMLFieldSetElement, choose: (value: string) => void}}
 */
export function segments(label, choices, chosen, onChange) {
  const name = fresh();
  /** @type {Record<string, HTMLInputElement>} */
  const inputs = {};
  const element = make("fieldset", { class: "segments" }, make("legend", { class: "unseen" }, label));
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
