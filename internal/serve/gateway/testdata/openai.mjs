// Drives a gateway with the official OpenAI client, as a user's program does.
// Arguments: the client's module, the base URL, the key. Prints one JSON object.
const [, , module, baseURL, apiKey] = process.argv;
const { default: OpenAI } = await import(module);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const out = {};

const ask = { model: "writer", messages: [{ role: "user", content: "hi" }], max_tokens: 3 };

const whole = await client.chat.completions.create(ask);
out.whole = { text: whole.choices[0].message.content, tokens: whole.usage.completion_tokens };

out.stream = "";
for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
  out.stream += chunk.choices[0].delta.content ?? "";
}

for await (const chunk of await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } })) {
  out.usage = chunk.usage?.total_tokens ?? null;
}

out.aborted = 0;
const long = await client.chat.completions.create({ ...ask, max_tokens: 1000, stream: true });
for await (const _ of long) {
  if (++out.aborted === 3) break; // the client aborts the request
}

const caught = async (call) => {
  try {
    await call();
    return "nothing was raised";
  } catch (e) {
    return { type: e.constructor.name, status: e.status ?? null, code: e.code };
  }
};
out.missing = await caught(() => client.chat.completions.create({ ...ask, model: "nobody" }));
out.unknown = await caught(() => new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 }).models.list());
out.cut = await caught(async () => {
  for await (const _ of await client.chat.completions.create({ ...ask, model: "broken", stream: true }));
});
out.models = (await client.models.list()).data.map((m) => m.id);

console.log(JSON.stringify(out));
