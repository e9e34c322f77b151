// The server: requests, its errors, and its streams of events. All addresses are relative, so that the page works behind
// a proxy that puts a path before them.

const KEY = "unmask-key";

/** What the server refused, or that it did not answer (status 0). */
export class ApiError extends Error {
	/** @param {number} status @param {Detail} detail @param {number} retryAfter seconds; 0: not told */
	constructor(status, detail, retryAfter = 0) {
		super(detail.message);
		this.status = status;
		this.param = detail.param;
		this.code = detail.code;
		this.retryAfter = retryAfter;
	}
}

/** Whether the server, or what stands before it, says that it cannot answer now. @param {unknown} error */
export function isAway(error) {
	return error instanceof ApiError && [0, 502, 503, 504].includes(error.status);
}

/** The time before a server that is away is asked again. */
export function pause() {
	return new Promise((resolve) => setTimeout(resolve, 2000));
}

/** Whether a key is sent. */
export function hasKey() {
	return Boolean(sessionStorage.getItem(KEY));
}

function gone() {
	return new ApiError(0, { message: "The server does not answer.", param: null, code: "gone" });
}

/** Who is asked for a key when one is needed; gives it, or null. @type {(reason: string) => Promise<string | null>} */
let askForKey = async () => null;

/** @param {(reason: string) => Promise<string | null>} ask */
export function onKeyNeeded(ask) {
	askForKey = ask;
}

/** JSON in which seeds keep all their digits: they may be larger than a number holds here, and become text then. @param {string} text @returns {any} */
export function parse(text) {
	return JSON.parse(text.replace(/("seed"\s*:\s*)(\d{16,})/g, '$1"$2"'));
}

/** The opposite: a seed that is text is written as a number. @param {unknown} value @param {number} [indent] */
export function stringify(value, indent) {
	return JSON.stringify(value, null, indent).replace(/("seed":\s*)"(\d+)"/g, "$1$2");
}

/** The answer to a request, whatever asks for a key on the way. ApiError if it is refused. @param {string} path @param {RequestInit} [init] @returns {Promise<Response>} */
export async function send(path, init = {}) {
	for (;;) {
		const headers = new Headers(init.headers);
		const key = sessionStorage.getItem(KEY);
		if (key) headers.set("authorization", `Bearer ${key}`);
		let answer;
		try {
			answer = await fetch(path, { ...init, headers, credentials: "omit" });
		} catch (error) {
			if (init.signal?.aborted) throw error;
			throw gone();
		}
		if (answer.ok) return answer;
		const refusal = await refusalOf(answer);
		if (answer.status !== 401) throw refusal;
		const given = await askForKey(refusal.message);
		if (given === null) throw refusal;
		sessionStorage.setItem(KEY, given.replace(/[^!-~]/g, "")); // what no header holds is in no key
	}
}

/** @param {Response} answer */
async function refusalOf(answer) {
	const retryAfter = Number(answer.headers.get("retry-after")) || 0;
	try {
		return new ApiError(answer.status, (await answer.json()).error, retryAfter);
	} catch {
		const message = `The server answered ${answer.status}.`;
		return new ApiError(answer.status, { message, param: null, code: null }, retryAfter);
	}
}

/** What a GET answers. @param {string} path @returns {Promise<any>} */
export async function get(path) {
	return parse(await (await send(path)).text());
}

/**
 * Send a request, and hear of the events of its answer until it is complete.
 * @param {string} path
 * @param {AbortSignal} signal
 * @param {(event: any) => void} onEvent
 * @param {Values} [body]
 * @param {Record<string, Blob>} [files] sent as a form, if there are any
 */
export async function hear(path, signal, onEvent, body, files = {}) {
	const answer = await send(path, body ? { method: "POST", signal, ...encoded(body, files) } : { signal });
	let finished = false;
	for await (const event of events(answer, signal)) {
		const error = event.error ?? event.video?.error;
		if (error) throw new ApiError(event.error?.code === "unavailable" ? 503 : 500, error);
		finished = finished || event.type.endsWith(".completed");
		onEvent(event);
	}
	if (!finished) throw gone();
}

/** @param {Values} body @param {Record<string, Blob>} files @returns {RequestInit} */
function encoded(body, files) {
	if (!Object.keys(files).length) return { body: stringify(body), headers: { "content-type": "application/json" } };
	const form = new FormData();
	for (const [name, file] of Object.entries(files)) form.append(name, file, `${name}.png`);
	for (const [name, value] of Object.entries(body)) form.append(name, typeof value === "string" ? value : JSON.stringify(value));
	return { body: form };
}

/** The events of a stream. @param {Response} answer @param {AbortSignal} signal */
async function* events(answer, signal) {
	if (!answer.body) return;
	const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
	let text = "";
	for (;;) {
		let part;
		try {
			part = await reader.read();
		} catch (error) {
			if (signal.aborted) throw error;
			throw gone();
		}
		if (part.done) return;
		text += part.value;
		const frames = text.split("\n\n");
		text = frames.pop() ?? "";
		for (const frame of frames) {
			const data = frame.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
			if (data.length) yield parse(data.join("\n"));
		}
	}
}

/** The bytes that base 64 stands for. @param {string} text */
export function bytes(text) {
	return Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
}
