// What the files of page/ call things; tsc reads it, and no browser.

type Studio = import("./page/app.js").Studio;
type Composer = import("./page/composer.js").Composer;
type Fields = import("./page/fields.js").Fields;
type Stage = import("./page/stage.js").Stage;
type Reports = import("./page/drawing.js").Report;
type Unmasking = import("./page/trace.js").Unmasking;

type Values = Record<string, any>;
type Child = string | Node | null | undefined | false;
type Pen = CanvasRenderingContext2D;
type Picture = CanvasImageSource & { width: number; height: number };
type Point = { x: number; y: number }; // in pixels of the picture
type Box = { x: number; y: number; w: number; h: number };
type Side = "left" | "right" | "top" | "bottom";
type Tool = "brush" | "erase" | "lasso";
type View = "picture" | "cells" | "when" | "sure";

type Size = { width: number; height: number };
type Given = { blob: Blob; picture: ImageBitmap };
type Clip = { video: Values; sheet: ImageBitmap } & Size; // the size of a frame

type ViewKind = { title: string; kind: new (studio: Studio) => any; fits?: (card: Values) => boolean };
/** A form: what its button says, the options that are shown, or are not, and the models that it is for. */
type About = { verb: string; only?: string[]; without?: string[]; fits?: (card: Values) => boolean };
/** One of several things that a form asks for, and the fields that it has alone. */
type Mode = { label: string; verb: string; path: string; fields: string[]; says: string };
type Faulty = { fault: Fields["fault"] };
/** How something ends that goes wrong: how it is tried again, and whose fields it may name. */
type Ends = { retry: () => void; fields?: () => Fields[]; failed?: () => void };

/** Words that a model was not taught, and those that it knows and that look like them. */
type Warning = { code: string; param: string; message: string; words: { word: string; nearest: string[] }[] };

/** What an error of the server says. */
type Detail = { message: string; type?: string; param: string | null; code: string | null };

/** An option of a route, as the server's document and the card of a model tell it. */
type Option = { name: string; types: string[]; meaning: string; schema: Values; owners: string[]; bound: Values };

/** A state of all cells. */
type Frame = { signs: string[]; sure: Uint8Array; at: number /* ms */; passes: number };

type Order = {
	path: string;
	body: Values;
	files: Record<string, Blob>;
	size?: [number, number]; // of the result, if it is not what the model draws
	base?: Picture; // what is drawn over
	corner?: Point; // where it lies in the result
	name?: string; // what stands before the words about it
	judge?: boolean; // whether the model's judge is asked
};
type Result = { blob: Blob; picture: ImageBitmap; unmasking: Unmasking; values: Values };

/** Who hears how a drawing goes. */
type Ear = { begun: (images: Unmasking[]) => void; changed: (unmasking: Unmasking) => void };

/** What the history keeps. */
type Entry = {
	id?: number;
	when: number;
	path: string;
	files: Record<string, Blob>; // what was sent
	body: Values; // what was asked, seed included
	values: Values; // what the server says it was drawn from
	blob: Blob;
	corner?: Point; // where the picture that was sent lies
	trace: any;
	sheet?: Blob; // of a clip: all its frames; the blob is one of them
};
