// A tool-calling loop on Node with nothing but what it has: fetch, which keeps connections, and Promise.all.
//
//     node fetch.mjs URL CONVERSATIONS CONCURRENCY WARM stream|whole
const [url, count, atOnce, warm, mode] = process.argv.slice(2);
const stream = mode === "stream";
const tools = [{
    type: "function", name: "noop", description: "Looks something up", strict: true,
    parameters: { type: "object", properties: { n: { type: "integer" } }, required: ["n"], additionalProperties: false },
}];
const noop = async ({ n }) => n;

async function readStream(body) {
    const found = [], decoder = new TextDecoder();
    let rest = "";
    for await (const piece of body) {
        const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
        rest = lines.pop();
        for (const line of lines) {
            if (line.startsWith("data: ")) {
                const event = JSON.parse(line.slice(6));
                if (event.type === "response.output_item.done") {
                    found.push(event.item);
                }
            }
        }
    }
    return found;
}

async function ask(items) {
    const body = {
        model: "bench", instructions: "Look things up.", input: items, tools, store: false,
        include: ["reasoning.encrypted_content"], parallel_tool_calls: true, ...(stream ? { stream: true } : {}),
    };
    const answer = await fetch(url, {
        method: "POST", body: JSON.stringify(body),
        headers: { "Content-Type": "application/json", Authorization: "Bearer test-key" },
    });
    if (!answer.ok) {
        throw new Error(await answer.text());
    }
    return stream ? readStream(answer.body) : (await answer.json()).output;
}

async function talk() {
    const items = [{ role: "user", content: "Look things up, then say what you found." }];
    for (;;) {
        const answer = await ask(items);
        const calls = answer.filter((item) => item.type === "function_call");
        if (calls.length === 0) {
            if (answer.at(-1).content[0].text !== "All looked up.") {
                throw new Error("another answer");
            }
            return;
        }
        const outputs = await Promise.all(calls.map(async (call) => ({
            type: "function_call_output", call_id: call.call_id,
            output: JSON.stringify(await noop(JSON.parse(call.arguments))),
        })));
        items.push(...answer, ...outputs);
    }
}

async function phase(n) {
    let left = n;
    await Promise.all(Array.from({ length: Number(atOnce) }, async () => {
        while (left-- > 0) {
            await talk();
        }
    }));
}

await phase(Number(warm));
const cpu = process.cpuUsage(), begun = performance.now();
await phase(Number(count));
const wall_s = (performance.now() - begun) / 1000, used = process.cpuUsage(cpu);
console.log(JSON.stringify({
    cpu_s: (used.user + used.system) / 1e6, wall_s, maxrss_kb: process.resourceUsage().maxRSS,
}));
process.exit(0);
