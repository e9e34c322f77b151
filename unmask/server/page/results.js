// What can be done with a finished picture.

import { make, put } from "./dom.js";
import { asCurl, asLink, asPython, download, nameOf } from "./files.js";

/** @typedef {import("./app.js").Studio} Studio */
/** @typedef {import("./history.js").Entry} Entry */

/**
 * Buttons that save it, edit it, and copy the request that it came from.
 * @param {Studio} studio
 * @param {Entry} entry
 * @param {string} view
 */
export function resultActions(studio, entry, view) {
  const { files } = entry;
  const element = make("div", { class: "row" });
  if (view !== "edit") put(element, make("button", { type: "button", onclick: () => studio.edit(entry) }, "Edit it"));
  put(element, make("span", { class: "hint" }, "Save"));
  for (const format of ["png", "webp", "jpeg"]) {
    put(element, make("button", { type: "button", class: "quiet", "aria-label": `Download as ${format}`,
      onclick: () => download(entry.blob, format, nameOf(entry.body)).catch((error) => studio.notice(error)) }, format.toUpperCase()));
  }
  put(element, make("span", { class: "hint" }, "Copy as"));
  const copies = { curl: () => asCurl(entry.path, entry.body, files), Python: () => asPython(entry.path, entry.body, files), link: () => asLink(view, studio.views[view].settings()) };
  for (const [name, text] of Object.entries(copies)) {
    put(element, make("button", { type: "button", class: "quiet", "aria-label": `Copy as ${name}`, onclick: () => studio.code(`Copy as ${name}`, text()) }, name));
  }
  return element;
}
