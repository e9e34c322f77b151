// Words that a model was not taught, and those that it knows and that look like them.

import { make } from "./dom.js";

/** A line a word, with buttons that put another in its place. @param {Warning[]} warnings @param {Composer} composer whose prompt it was */
export function warningList(warnings, composer) {
	return make("ul", "warnings", ...warnings.flatMap(({ param, words }) => words.map(({ word, nearest }) => {
		const line = make("li", {}, `The model was not taught “${word}”.`, nearest.length > 0 && " It knows:", ...nearest.map((other) =>
			make("button", { class: "small", "aria-label": `Write ${other} instead of ${word}`, onclick: () => {
				rewrite(composer, param, word, other);
				line.remove();
			} }, other)));
		return line;
	})));
}

/** Put another word in the place of one, wherever it stands in a prompt. @param {Composer} composer @param {string} param @param {string} word @param {string} other */
function rewrite(composer, param, word, other) {
	const input = param === "prompt" ? composer.prompt : composer.fields.fields.get(param)?.input;
	if (!input) return;
	const parts = input.value.split(" ").map((part) => {
		const rest = part.slice(word.length);
		return part.startsWith(word) && !/[\p{L}\p{N}]/u.test(rest) ? other + rest : part;
	});
	input.value = parts.join(" ");
	input.dispatchEvent(new Event("input"));
	input.focus();
}
