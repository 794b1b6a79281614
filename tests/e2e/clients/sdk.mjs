// SPDX-License-Identifier: Apache-2.0
// One streamed question through an official SDK, with a shell tool: sdk.mjs anthropic|chat|responses|genai.
// Prints the text and the calls, or the error's message; everything else comes from the environment.
const prompt = "say a word with the shell";
const schema = { type: "object", properties: { command: { type: "string" } }, required: ["command"] };
const say = (...words) => console.log(...words);

const kinds = {
	async anthropic() {
		const { default: Anthropic } = await import("@anthropic-ai/sdk");
		const stream = new Anthropic().messages.stream({
			model: process.env.MODEL,
			max_tokens: 256,
			messages: [{ role: "user", content: prompt }],
			tools: [{ name: "bash", description: "runs a command", input_schema: schema }],
		});
		const message = await stream.finalMessage();
		for (const block of message.content)
			say(block.type === "tool_use" ? `call ${block.name} ${JSON.stringify(block.input)}` : block.text);
		say(`usage ${message.usage.output_tokens}`);
	},
	async chat() {
		const { default: OpenAI } = await import("openai");
		const stream = await new OpenAI().chat.completions.create({
			model: process.env.MODEL,
			stream: true,
			messages: [{ role: "user", content: prompt }],
			tools: [{ type: "function", function: { name: "bash", description: "runs a command", parameters: schema } }],
		});
		let text = "", name = "", args = "";
		for await (const chunk of stream) {
			// A chunk without choices was not asked for: it must not come.
			const delta = chunk.choices[0].delta;
			text += delta.content ?? "";
			name ||= delta.tool_calls?.[0]?.function?.name ?? "";
			args += delta.tool_calls?.[0]?.function?.arguments ?? "";
		}
		say(text);
		say(`call ${name} ${args}`);
	},
	async responses() {
		const { default: OpenAI } = await import("openai");
		const stream = await new OpenAI().responses.create({
			model: process.env.MODEL,
			stream: true,
			input: prompt,
			tools: [{ type: "function", name: "bash", description: "runs a command", parameters: schema, strict: false }],
		});
		for await (const event of stream) {
			if (event.type === "response.output_text.delta")
				say(event.delta);
			if (event.type === "response.output_item.done" && event.item.type === "function_call")
				say(`call ${event.item.name} ${event.item.arguments}`);
		}
	},
	async genai() {
		const { GoogleGenAI } = await import("@google/genai");
		const ai = new GoogleGenAI({ apiKey: process.env.GEMINI_API_KEY, apiVersion: process.env.GENAI_API_VERSION || undefined });
		const stream = await ai.models.generateContentStream({
			model: process.env.MODEL,
			contents: prompt,
			config: { tools: [{ functionDeclarations: [{ name: "bash", description: "runs a command", parametersJsonSchema: schema }] }] },
		});
		for await (const chunk of stream)
			for (const part of chunk.candidates?.[0]?.content?.parts ?? [])
				say(part.functionCall ? `call ${part.functionCall.name} ${JSON.stringify(part.functionCall.args)}` : part.text);
	},
};

try {
	await kinds[process.argv[2]]();
} catch (error) {
	say(`error ${error.status ?? ""} ${error.message}`);
	process.exit(1);
}
