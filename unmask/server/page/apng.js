// Animated PNGs: pictures over time in one file, without loss.

import { asFile, chunks, SIGNATURE } from "./files.js";

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
	let c = n;
	for (let k = 0; k < 8; k += 1) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
	return c;
});

/** @param {number[]} numbers as bytes, the highest first */
function words(...numbers) {
	return numbers.flatMap((number) => [24, 16, 8, 0].map((shift) => (number >>> shift) & 255));
}

/** @param {string} kind @param {Iterable<number>} data */
function chunk(kind, data) {
	const body = Uint8Array.from([...kind].map((sign) => sign.charCodeAt(0)).concat([...data]));
	const check = ~body.reduce((crc, byte) => TABLE[(crc ^ byte) & 255] ^ (crc >>> 8), -1);
	return Uint8Array.from([...words(body.length - 4), ...body, ...words(check)]);
}

/** @param {HTMLCanvasElement[]} frames of one size @param {number} rate frames a second */
export async function animated(frames, rate) {
	const [{ width, height }] = frames;
	const parts = [Uint8Array.from(SIGNATURE)];
	let number = 0;
	for (const [i, frame] of frames.entries()) {
		let begun = false;
		for (const [kind, data] of chunks(new DataView(await (await asFile(frame)).arrayBuffer()))) {
			if (kind === "IHDR" && !number) parts.push(chunk(kind, data), chunk("acTL", words(frames.length, 0)));
			if (kind !== "IDAT") continue;
			if (!begun) parts.push(chunk("fcTL", [...words(number++, width, height, 0, 0), 0, 1, ...words(rate).slice(2), 0, 0]));
			parts.push(i === 0 ? chunk(kind, data) : chunk("fdAT", [...words(number++), ...data]));
			begun = true;
		}
	}
	return new Blob([...parts, chunk("IEND", [])], { type: "image/png" });
}
