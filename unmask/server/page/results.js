// What can be done with a finished picture.

import { make, put, quiet } from "./dom.js";
import { asCurl, asLink, asPython, download, nameOf } from "./files.js";

/** Buttons that save it, edit it, and copy the request that it came from. @param {Studio} studio @param {Entry} entry @param {string} view */
export function resultActions(studio, entry, view) {
	const element = make("div", "row");
	if (view !== "edit") put(element, make("button", { onclick: () => studio.edit(entry) }, "Edit it"));
	put(element, make("span", "hint", "Save"));
	const save = (/** @type {string} */ format) => download(entry.blob, format, nameOf(entry.body)).catch((error) => studio.views[view].report.fail(error, [], () => save(format)));
	for (const format of ["png", "webp", "jpeg"]) put(element, quiet(format.toUpperCase(), () => save(format), `Download as ${format}`));
	if (Object.keys(entry.body).length) put(element, ...copies(studio, entry, view)); // else it was not drawn here
	return element;
}

/** Buttons that copy the request a result came from. @param {Studio} studio @param {Entry} entry @param {string} view */
export function copies(studio, { path, body, files }, view) {
	const ways = { curl: () => asCurl(path, body, Object.keys(files)), Python: () => asPython(path, body, Object.keys(files)), link: () => asLink(view, studio.views[view].settings()) };
	return [make("span", "hint", "Copy as"), ...Object.entries(ways).map(([name, text]) =>
		quiet(name, () => studio.code(`Copy as ${name}`, text(), name === "link" ? {} : files), `Copy as ${name}`))];
}
