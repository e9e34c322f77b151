// The studio: asks the server what it can do, makes the views, and keeps the history.

import { ApiError, get, onKeyNeeded, pause, send } from "./api.js";
import { ClipsView, drawsClips } from "./clips.js";
import { byId, make, put, quiet } from "./dom.js";
import { DrawView } from "./draw.js";
import { EditView } from "./edit.js";
import { fromLink, NO_PICTURE, notes, save } from "./files.js";
import * as history from "./history.js";
import { RaceView } from "./race.js";

const EXAMPLE = "a red apple to the left of a blue book"; // drawn for who comes for the first time
// A view is a class and a line here.
const VIEWS = /** @type {Record<string, ViewKind>} */ ({
	draw: { title: "Draw", kind: DrawView }, race: { title: "Race", kind: RaceView }, edit: { title: "Edit", kind: EditView },
	clips: { title: "Clips", kind: ClipsView, fits: drawsClips },
});

/** What the views share. */
export class Studio {
	constructor() {
		/** @type {any} */
		this.document = null;
		/** @type {Values[]} */
		this.cards = [];
		/** @type {Record<string, any>} */
		this.views = {};
		/** @type {Record<string, HTMLButtonElement>} */
		this.tabs = {};
		this.view = "";
		this.server = byId("server", HTMLParagraphElement);
		this.strip = byId("strip", HTMLUListElement);
		this.work = byId("work", HTMLElement);
		this.looking = false;
	}

	async start() {
		onKeyNeeded((reason) => this.askForKey(reason));
		this._listen();
		const said = make("p", "lead", "Asking the server …");
		this.work.replaceChildren(said);
		try {
			// One after the other: without a key the browser itself would ask for a password at the second.
			this.cards = (await get("v1/models")).data;
			this.document = await get("openapi.json");
		} catch (error) {
			const words = error instanceof Error ? error.message : String(error);
			this.work.replaceChildren(make("div", "notice", make("h2", {}, "The studio cannot begin"), make("p", {}, words),
				make("button", { class: "primary", onclick: () => this.start() }, "Try again")));
			return;
		}
		this.work.replaceChildren();
		this._makeViews();
		const linked = this._follow();
		if (!linked) this.open("draw");
		const entries = await this._loadHistory();
		this.watch();
		const { condition, state } = this.cards[0] ?? {};
		if (!linked && !entries.length && condition === "text" && state === "loaded") {
			this.views.draw.write({ prompt: EXAMPLE });
			this.views.draw.draw();
		}
	}

	/** Open what the address holds, if it is a link. */
	_follow() {
		const link = fromLink();
		if (!link || !(link.view in this.views)) return false;
		this.open(link.view);
		this.views[link.view].write(link.settings);
		return true;
	}

	_makeViews() {
		const holder = byId("tabs", HTMLDivElement);
		holder.replaceChildren();
		for (const [name, { title, kind, fits }] of Object.entries(VIEWS)) {
			if (fits && !this.cards.some(fits)) continue;
			this.views[name] = new kind(this);
			const { element } = this.views[name];
			element.id = `view-${name}`;
			element.setAttribute("role", "tabpanel");
			element.setAttribute("aria-labelledby", `tab-${name}`);
			this.tabs[name] = make("button", { role: "tab", id: `tab-${name}`, "aria-controls": element.id, onclick: () => this.open(name) }, title);
			put(holder, this.tabs[name]);
			put(this.work, element);
		}
		const names = Object.keys(this.views);
		holder.onkeydown = (event) => {
			const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
			if (!step) return;
			const next = names[(names.indexOf(this.view) + step + names.length) % names.length];
			this.open(next);
			this.tabs[next].focus();
		};
	}

	/** @param {string} name */
	open(name) {
		this.view = name;
		for (const [other, tab] of Object.entries(this.tabs)) {
			tab.setAttribute("aria-selected", String(other === name));
			tab.tabIndex = other === name ? 0 : -1;
			this.views[other].element.hidden = other !== name;
		}
		this.views[name].paint?.();
	}

	/** A model's card, asked for again if it was not loaded. @param {string} id */
	async cardOf(id) {
		const at = this.cards.findIndex((card) => card.id === id);
		if (!this.cards[at].grid) this.cards[at] = await get(`v1/models/${id}`);
		return this.cards[at];
	}

	/** Take a file that was dropped, pasted or opened: one of Unmask's brings its settings along. @param {File | Blob} file @param {string} view */
	async take(file, view) {
		const values = await notes(file).catch(() => null);
		/** @type {Entry} */
		const entry = { when: Date.now(), path: "v1/images/generations", files: {}, body: values ? settingsOf(values) : {}, values: values ?? {}, blob: file, trace: null };
		const { report } = this.views[view];
		this.open(view);
		report.say("");
		try {
			await this.views[view].open(entry);
		} catch {
			report.say(NO_PICTURE);
		}
	}

	/** @param {Entry} entry */
	async edit(entry) {
		this.open("edit");
		await this.views.edit.open(entry);
		this.work.focus();
	}

	/** Keep a result in the history. @param {Order} order @param {Result} result */
	async remember(order, result) {
		/** @type {Entry} */
		const entry = { when: Date.now(), path: order.path, files: order.files, body: order.body, values: result.values, blob: result.blob, corner: order.corner,
			 trace: result.unmasking.pack() };
		return this.keep(entry);
	}

	/** Keep what was drawn in the history. @param {Entry} entry */
	async keep(entry) {
		try {
			await history.keep(entry);
			this._show(entry, true);
		} catch {
			this._say("The browser keeps no history here: the picture is on the screen alone.");
		}
		return entry;
	}

	async _loadHistory() {
		for (const image of this.strip.querySelectorAll("img")) URL.revokeObjectURL(image.src);
		this.strip.replaceChildren();
		const entries = await history.all().catch(() => []);
		for (const entry of entries) this._show(entry, false);
		return entries;
	}

	/** @param {Entry} entry @param {boolean} first */
	_show(entry, first) {
		const address = URL.createObjectURL(entry.blob);
		const words = String(entry.body.prompt || "a picture");
		const open = make("button", { title: words, onclick: () => this._reopen(entry) }, make("img", { src: address, alt: words, width: 64, height: 64, decoding: "sync" }));
		const item = make("li", {}, open, make("button", { class: "remove", "aria-label": `Remove: ${words}`, onclick: async () => {
			await history.remove(Number(entry.id));
			URL.revokeObjectURL(address);
			item.remove();
		} }, "✕"));
		if (first) this.strip.prepend(item);
		else put(this.strip, item);
	}

	/** @param {Entry} entry */
	_reopen(entry) {
		const view = entry.sheet ? "clips" : this.taker;
		if (!this.views[view]) return; // a clip, and no model of clips is served any more
		this.open(view);
		this.views[view].open(entry);
	}

	/** The view that takes a picture now. */
	get taker() {
		return this.views[this.view].takes ? this.view : "draw";
	}

	/** Show text to be copied. @param {string} title @param {string} text @param {Record<string, Blob>} [files] that it names */
	code(title, text, files = {}) {
		byId("code-title", HTMLHeadingElement).textContent = title;
		const area = byId("code", HTMLTextAreaElement);
		area.value = text;
		byId("copy-code", HTMLButtonElement).textContent = "Copy";
		const row = byId("code-files", HTMLDivElement), named = Object.entries(files);
		row.replaceChildren();
		put(row, named.length > 0 && "It reads these files:", ...named.map(([name, file]) => quiet(`${name}.png`, () => save(file, `${name}.png`), `Save ${name}.png`)));
		byId("code-dialog", HTMLDialogElement).showModal();
		area.select();
	}

	/** @param {string} reason @returns {Promise<string | null>} */
	askForKey(reason) {
		const dialog = byId("key-dialog", HTMLDialogElement), input = byId("key", HTMLInputElement);
		byId("key-reason", HTMLParagraphElement).textContent = `${reason}.`;
		input.value = "";
		if (!dialog.open) dialog.showModal();
		return new Promise((resolve) => {
			dialog.addEventListener("close", () => resolve(dialog.returnValue === "use" && input.value ? input.value : null), { once: true });
		});
	}

	/** @param {string} words */
	_say(words) {
		this.server.textContent = words;
		this.server.dataset.state = words === "ready" ? "ready" : "waiting";
	}

	/** Ask until the server is ready, and say so. */
	async watch() {
		if (this.looking) return;
		this.looking = true;
		for (;;) {
			try {
				await send("readyz");
				break;
			} catch (error) {
				this._say(error instanceof ApiError && error.status !== 503 ? "The server is gone; looking for it …" : "The server is getting ready …");
			}
			await pause();
		}
		this.looking = false;
		this._say("ready");
	}

	_listen() {
		const clear = byId("clear-history", HTMLButtonElement);
		clear.onclick = async () => {
			if (!confirm("Remove all pictures of the history?")) return;
			await history.clear();
			await this._loadHistory();
		};
		const copy = byId("copy-code", HTMLButtonElement);
		copy.onclick = () => {
			byId("code", HTMLTextAreaElement).select();
			// Unlike navigator.clipboard it is there without TLS too.
			copy.textContent = document.execCommand("copy") ? "Copied" : "It is selected: copy it by hand";
		};
		document.body.ondragover = (event) => event.preventDefault();
		document.body.ondrop = (event) => {
			event.preventDefault();
			const file = event.dataTransfer?.files[0];
			if (file && this.view) this.take(file, this.taker);
		};
		document.body.onpaste = (event) => {
			const file = [...(event.clipboardData?.files ?? [])].find((other) => other.type.startsWith("image/"));
			if (!file || !this.view) return;
			event.preventDefault();
			this.take(file, this.taker);
		};
		window.onhashchange = () => this._follow();
	}
}

/** What a request has to say to draw a picture again, of what its file tells. @param {Values} values */
function settingsOf(values) {
	const { subjects: _, edit: __, size: ___, ...settings } = values;
	if (!settings.image_index) delete settings.image_index;
	return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== null));
}

new Studio().start();
