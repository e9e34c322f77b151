// From an order to its images: sends it, and lets whoever listens see them grow.

import { ApiError, bytes, hear } from "./api.js";
import { make, put } from "./dom.js";
import { Unmasking, cellOf } from "./trace.js";
import { warningList } from "./warnings.js";

const PREVIEWS = 3; // the most that a stream has

/**
 * Draw what a view asks for, tell there how it goes, and give the images in their order.
 * @param {Order} order
 * @param {{studio: Studio, composer: Composer, report: Report}} view
 * @param {AbortSignal} signal
 * @param {Ear} ear
 */
export async function request(order, { studio, composer, report }, signal, ear) {
	const body = { ...order.body, stream: true, trace: true, partial_images: PREVIEWS, ...(order.judge && { judge: true }) };
	const count = Number(order.body.n ?? 1), first = Number(order.body.image_index ?? 0);
	/** @type {Unmasking[]} */
	let images = [];
	/** @type {Result[]} */
	const results = [];
	const sent = performance.now();
	let busy = Promise.resolve();
	const say = (/** @type {string} */ words) => report.say(`${order.name ?? ""}${words}`);
	const take = async (/** @type {any} */ event) => {
		if (event.type.endsWith(".queued")) {
			say(event.ahead ? `Waiting: ${event.ahead} before you.` : "Drawing …");
			const known = await studio.cardOf(composer.card.id); // it is loaded now
			const [width, height] = order.size ?? known.size.split("x").map(Number);
			images = Array.from({ length: count }, () => new Unmasking(width, height, cellOf(known, [width, height]), order.base, order.corner));
			ear.begun(images);
			return;
		}
		const image = images[event.image_index - first];
		if (event.type.endsWith(".trace")) image.add(event, event.heard - sent);
		else {
			const blob = new Blob([bytes(event.b64_json)], { type: `image/${event.output_format}` });
			const picture = await createImageBitmap(blob);
			if (event.type.endsWith(".partial_image")) image.show(picture, event.step);
			else {
				image.finish(picture);
				const { b64_json: _, heard: __, type: ___, usage: ____, ...values } = event;
				results[event.image_index - first] = { blob, picture, unmasking: image, values };
			}
		}
		if (!image.finished) say(`Step ${image.last} of ${image.planned} …`);
		ear.changed(image);
	};
	// Events are taken one after another, and heard when they come: decoding a picture holds no clock up.
	let seconds = 0;
	try {
		await hear(order.path, signal, (event) => {
			event.heard = performance.now();
			busy = busy.then(() => (signal.aborted ? undefined : take(event)));
		}, body, order.files);
		seconds = (performance.now() - sent) / 1000;
	} finally {
		await busy; // what is still to be said comes before what went wrong
	}
	return { results, seconds };
}

/** A seed that a number here holds exactly. */
export function dice() {
	const [high, low] = crypto.getRandomValues(new Uint32Array(2));
	return (high % 65536) * 4294967296 + low;
}

/** Tells how a drawing goes, or what is wrong with it and what can be done. */
export class Report {
	constructor() {
		this.element = make("div", { class: "report", role: "status", "aria-live": "polite" });
		this.timer = 0;
	}

	/** @param {string} words */
	say(words) {
		clearInterval(this.timer);
		this.element.className = "report";
		this.element.textContent = words;
	}

	/** Add what the server warns of to what was said. @param {any} warnings @param {Composer} composer */
	warn(warnings, composer) {
		if (warnings?.length) put(this.element, warningList(warnings, composer));
	}

	/** @param {unknown} error @param {Faulty[]} fields those that the error may name one of @param {() => void} retry */
	fail(error, fields, retry) {
		clearInterval(this.timer);
		const words = error instanceof Error ? error.message : String(error);
		if (error instanceof DOMException && error.name === "AbortError") {
			this.say("Cancelled.");
			return;
		}
		this.element.className = "report wrong";
		this.element.replaceChildren();
		const api = error instanceof ApiError ? error : null;
		if (!api) return put(this.element, words);
		if (api.param && fields.some((some) => some.fault(api.param, words))) {
			put(this.element, "One field needs another value: it is marked.");
			return;
		}
		const heads = /** @type {Record<number, string>} */ ({
			0: "The server cannot be reached", 502: "The server cannot be reached", 401: "A key is needed", 403: "This key may not draw", 413: "Too large", 429: "Too much at once",
			503: "The server is not ready", 504: "It took too long",
		});
		const again = make("button", { onclick: retry }, "Try again");
		put(this.element, make("strong", {}, heads[api.status] ?? "It did not work"), make("p", {}, words), again);
		let left = api.retryAfter;
		if (left > 0) {
			const count = () => {
				again.textContent = left > 0 ? `Try again (in ${left} s)` : "Try again";
				again.disabled = left > 0;
				left -= 1;
				if (left < 0) clearInterval(this.timer);
			};
			count();
			this.timer = window.setInterval(count, 1000);
		}
	}
}
