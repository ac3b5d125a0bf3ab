// The client of @a2a-js/sdk 1 against a running server; prints what it saw as JSON.
// Arguments: the address of the server, and JSONRPC or HTTP+JSON.

import { randomUUID } from "node:crypto";
import { Role, taskStateToJSON } from "a2a-1.0";
import { ClientFactory, ClientFactoryOptions } from "a2a-1.0/client";

const OPTIONS = "urn:a2a-task-manager:task-options:v1";
const [url, transport] = process.argv.slice(2);

function request(text, { parameters, configuration, ...more } = {}) {
  const metadata = parameters && { [OPTIONS]: { parameters } };
  const parts = [{ content: { $case: "text", value: text } }];
  return { message: { messageId: randomUUID(), role: Role.ROLE_USER, parts, metadata, ...more }, configuration };
}

function connect(agent) {
  const options = ClientFactoryOptions.createFrom(ClientFactoryOptions.default, { preferredTransports: [transport] });
  return new ClientFactory(options).createFromUrl(`${url}/a2a/${agent}/`);
}

const state = (task) => taskStateToJSON(task.status.state);

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
seen.spoken = [client.transport.protocolName, client.protocolVersion];

const done = await client.sendMessage(request("", { parameters: { seconds: 0.1, steps: 1 } }));
seen.blocking = [state(done), done.artifacts.length];
seen.history = (await client.getTask({ id: done.id })).history.map((said) => Role[said.role]);
seen.missing = await fails(client.getTask({ id: randomUUID() }));

seen.stream = [];
seen.states = [];
for await (const { payload } of client.sendMessageStream(request("", { parameters: { seconds: 0.3, steps: 3 } }))) {
  seen.stream.push(payload.$case);
  if (payload.$case !== "artifactUpdate") seen.states.push(state(payload.value));
}

const now = { returnImmediately: true };
const long = await client.sendMessage(request("", { parameters: { seconds: 60, steps: 100 }, configuration: now }));
seen["at once"] = state(long);
const subscribed = client.resubscribeTask({ id: long.id });
await subscribed.next();
seen.cancelled = state(await client.cancelTask({ id: long.id }));
for await (const { payload } of subscribed) seen.resubscribed = state(payload.value);
seen["cancelled again"] = await fails(client.cancelTask({ id: long.id }));

const conversation = await connect("converses-io");
const asked = await conversation.sendMessage(request("hello"));
seen.asks = state(asked);
const answer = request("yes", { taskId: asked.id, contextId: asked.contextId });
const answered = await conversation.sendMessage(answer);
seen.answered = [state(answered), answered.history.length];

console.log(JSON.stringify(seen));
