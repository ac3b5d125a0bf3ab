// The client of @a2a-js/sdk 0.3 against a running server; prints what it saw as JSON.
// Arguments: the address of the server, and JSONRPC or HTTP+JSON.

import { randomUUID } from "node:crypto";
import { ClientFactory, JsonRpcTransportFactory, RestTransportFactory } from "a2a-0.3/client";

const OPTIONS = "urn:a2a-task-manager:task-options:v1";
const [url, transport] = process.argv.slice(2);

function params(text, { parameters, configuration, ...more } = {}) {
  const metadata = parameters && { [OPTIONS]: { parameters } };
  const parts = [{ kind: "text", text }];
  return { message: { kind: "message", messageId: randomUUID(), role: "user", parts, metadata, ...more }, configuration };
}

function connect(agent) {
  const transports = [transport === "JSONRPC" ? new JsonRpcTransportFactory() : new RestTransportFactory()];
  return new ClientFactory({ transports }).createFromUrl(`${url}/a2a/${agent}/`);
}

const state = (task) => task.status.state;

/** The error's class, of a call that must fail. */
async function fails(call) {
  try {
    await call;
  } catch (error) {
    return error.constructor.name;
  }
  return "";
}

const seen = {};
const client = await connect("sleep");

const done = await client.sendMessage(params("", { parameters: { seconds: 0.1, steps: 1 } }));
seen.blocking = [state(done), done.artifacts.length];
seen.history = (await client.getTask({ id: done.id })).history.map((said) => said.role);
seen.missing = await fails(client.getTask({ id: randomUUID() }));

seen.stream = [];
seen.final = [];
for await (const event of client.sendMessageStream(params("", { parameters: { seconds: 0.3, steps: 3 } }))) {
  seen.stream.push(event.kind);
  if (event.kind === "status-update") {
    seen.final.push(event.final);
    seen.ended = state(event);
  }
}

const now = { blocking: false };
const long = await client.sendMessage(params("", { parameters: { seconds: 60, steps: 100 }, configuration: now }));
seen["at once"] = state(long);
const subscribed = client.resubscribeTask({ id: long.id });
await subscribed.next();
seen.cancelled = state(await client.cancelTask({ id: long.id }));
for await (const event of subscribed) seen.resubscribed = state(event);
seen["cancelled again"] = await fails(client.cancelTask({ id: long.id }));

const conversation = await connect("converses-io");
const asked = await conversation.sendMessage(params("hello"));
seen.asks = state(asked);
const answered = await conversation.sendMessage(params("yes", { taskId: asked.id, contextId: asked.contextId }));
seen.answered = [state(answered), answered.history.length];

console.log(JSON.stringify(seen));
