// OpenAI's client for node, unchanged, against the server at BASE_URL: see test_other_clients.py.
const assert = require("node:assert");
const { OpenAI, toFile } = require("openai");

const PNG = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABh6FO1AAAAABJRU5ErkJggg==",
  "base64",
); // one transparent pixel

async function main() {
  const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "none", maxRetries: 0 });
  const drawn = await client.images.generate({ prompt: "cat", n: 2, seed: 7 });
  assert.equal(drawn.data.length, 2);
  console.log("drawn");

  const image = await toFile(PNG, "image.png", { type: "image/png" });
  const mask = await toFile(PNG, "mask.png", { type: "image/png" });
  const edited = await client.images.edit({ image, mask, prompt: "cat" });
  assert.equal(edited.edit.kind, "inpaint");
  console.log("edited");

  const types = [];
  for await (const event of await client.images.generate({ prompt: "cat", stream: true })) {
    types.push(event.type);
  }
  assert.deepEqual(types, ["image_generation.completed"]);
  console.log("streamed");

  const refused = client.images.generate({ prompt: "cat", scheduler: "haltom" });
  await assert.rejects(refused, (error) => error.status === 400 && error.param === "scheduler");
  console.log("refused");

  const stopped = new AbortController();
  stopped.abort();
  const cancelled = client.images.generate({ prompt: "cat" }, { signal: stopped.signal });
  await assert.rejects(cancelled, OpenAI.APIUserAbortError);
  console.log("cancelled");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
