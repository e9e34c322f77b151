// Files in and out: what a PNG of Unmask says, other formats, and the same request as code or as a link.

import { hasKey, parse, stringify } from "./api.js";
import { blank, context, make } from "./dom.js";

export const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
export const NO_PICTURE = "This file is no picture that can be read: take a PNG, JPEG or WebP.";
export const VIDEOS = "v1/videos";
const LONGEST_NOTE = 1 << 20;

/** The chunks of a PNG, their kinds and bytes, as far as they are whole; none of another file. @param {DataView<ArrayBuffer>} data @returns {Generator<[string, Uint8Array<ArrayBuffer>]>} */
export function* chunks(data) {
	if (data.byteLength < 8 || SIGNATURE.some((byte, i) => data.getUint8(i) !== byte)) return;
	for (let at = 8; at + 12 <= data.byteLength;) {
		const length = data.getUint32(at);
		if (at + 12 + length > data.byteLength) return;
		yield [String.fromCharCode(...new Uint8Array(data.buffer, at + 4, 4)), new Uint8Array(data.buffer, at + 8, length)];
		at += 12 + length;
	}
}

/** The values that a PNG was drawn from, as Unmask writes them into it; null if it holds none that can be read. @param {Blob} file @returns {Promise<Values | null>} */
export async function notes(file) {
	for (const [kind, chunk] of chunks(new DataView(await file.arrayBuffer()))) {
		if (kind !== "iTXt" || chunk.length >= LONGEST_NOTE) continue;
		// keyword 0, compressed or not, method, language 0, keyword in it 0, text
		const [, text] = /^unmask\0\0[^][^\0]*\0[^\0]*\0([^]*)$/.exec(new TextDecoder().decode(chunk)) ?? [];
		if (text === undefined) continue;
		try {
			const values = parse(text);
			return values && typeof values === "object" && !Array.isArray(values) ? values : null;
		} catch {
			return null;
		}
	}
	return null;
}

/** Save a picture. A PNG is the server's own file, with what it was drawn from; the others are made here. @param {Blob} blob @param {string} format @param {string} name */
export async function download(blob, format, name) {
	save(blob.type === `image/${format}` ? blob : await converted(blob, format), `${name}.${format === "jpeg" ? "jpg" : format}`);
}

/** @param {Blob} file @param {string} name */
export function save(file, name) {
	const address = URL.createObjectURL(file);
	make("a", { href: address, download: name }).click();
	setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** @param {Blob} blob @param {string} format */
async function converted(blob, format) {
	const picture = await createImageBitmap(blob);
	const canvas = blank(picture.width, picture.height);
	const pen = context(canvas);
	if (format === "jpeg") {
		pen.fillStyle = "#ffffff"; // it holds no transparency
		pen.fillRect(0, 0, picture.width, picture.height);
	}
	pen.drawImage(picture, 0, 0);
	return asFile(canvas, `image/${format}`, 0.95);
}

/** @param {HTMLCanvasElement} canvas @param {string} [kind] @param {number} [quality] @returns {Promise<Blob>} */
export function asFile(canvas, kind = "image/png", quality = undefined) {
	return new Promise((resolve, reject) => {
		canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error(`this browser writes no ${kind}`))), kind, quality);
	});
}

/** @param {Values} values */
export function nameOf(values) {
	const words = String(values.prompt ?? "picture").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 48);
	return `${words || "picture"}-${values.seed ?? 0}`;
}

/** @param {string} path */
function address(path) {
	return new URL(path, document.baseURI.split("#")[0]).href;
}

/** @param {string} text */
function quoted(text) {
	return `'${text.replaceAll("'", "'\\''")}'`;
}

/** The request for a shell. @param {string} path @param {Values} body @param {string[]} files the names of its pictures */
export function asCurl(path, body, files) {
	const lines = [`curl -s ${quoted(address(path))}`];
	if (hasKey()) lines.push(`-H "authorization: Bearer $UNMASK_KEY"`);
	if (files.length) {
		for (const name of files) lines.push(`-F ${name}=@${name}.png`);
		for (const [name, value] of Object.entries(body)) lines.push(`--form-string ${quoted(`${name}=${asText(value)}`)}`);
	} else lines.push("-H 'content-type: application/json'", `-d ${quoted(stringify(body))}`);
	return lines.join(" \\\n  ");
}

/** A value as Python writes it. @param {unknown} value @returns {string} */
function python(value) {
	if (value === null) return "None";
	if (typeof value === "boolean") return value ? "True" : "False";
	if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
	if (typeof value !== "object") return typeof value === "string" ? JSON.stringify(value) : String(value);
	const pairs = Object.entries(value ?? {}).map(([name, held]) => `${JSON.stringify(name)}: ${name === "seed" ? held : python(held)}`);
	return `{${pairs.join(", ")}}`;
}

/** As a form holds it. @param {unknown} value */
function asText(value) {
	return typeof value === "string" ? value : JSON.stringify(value);
}

/** The request as a program that saves what comes of it. @param {string} path @param {Values} body @param {string[]} files */
export function asPython(path, body, files) {
	const texts = Object.fromEntries(Object.entries(body).map(([name, value]) => [name, asText(value)]));
	const sent = files.length ? [`files={${files.map((name) => `"${name}": open("${name}.png", "rb")`).join(", ")}}`, `data=${python(texts)}`] : [`json=${python(body)}`];
	const clip = path.startsWith(VIDEOS), job = `${python(address(`${VIDEOS}/`))} + video["id"]`;
	return [`import ${clip ? "time" : "base64"}`, "", "import requests", "", "session = requests.Session()",
		...(hasKey() ? ['session.headers["authorization"] = "Bearer YOUR KEY"'] : []),
		"answer = session.post(", ...[python(address(path)), ...sent].map((line) => `    ${line},`), ")", "assert answer.ok, answer.text",
		...(clip ? ["video = answer.json()", 'while video["status"] in ("queued", "in_progress"):', "    time.sleep(1)", `    video = session.get(${job}).json()`,
			'assert video["status"] == "completed", video', `clip = session.get(${job} + "/content").content`, 'open("clip." + video["output_format"], "wb").write(clip)']
			: ['for i, image in enumerate(answer.json()["data"], 1):', '    open(f"picture-{i}.png", "wb").write(base64.b64decode(image["b64_json"]))']), ""].join("\n");
}

/** A link that holds a view and all its settings. Whoever opens it sees them; nothing is drawn before they say so. @param {string} view @param {Values} settings */
export function asLink(view, settings) {
	return `${address("")}#${encodeURIComponent(stringify({ view, settings }))}`;
}

/** What a link holds, if this page was opened by one. @returns {{view: string, settings: Values} | null} */
export function fromLink() {
	try {
		const held = parse(decodeURIComponent(location.hash.slice(1)));
		return held && typeof held.settings === "object" && typeof held.view === "string" ? held : null;
	} catch {
		return null;
	}
}
