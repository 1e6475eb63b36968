// The TypeScript SDK's client with a session: `node session_client.cjs URL`, of the many-sided server.
// Prints as JSON what its calls gave, answers the server's question, and ends its session.
"use strict";
const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");
const { ListRootsRequestSchema } = require("@modelcontextprotocol/sdk/types.js");

async function main([url]) {
  const client = new Client({ name: "session-client", version: "1.0.0" }, { capabilities: { roots: {} } });
  client.setRequestHandler(ListRootsRequestSchema, async () => ({ roots: [{ uri: "file:///ts" }] }));
  const transport = new StreamableHTTPClientTransport(new URL(url));
  await client.connect(transport);
  let steps = 0;
  const call = async (name, given, options) =>
    (await client.callTool({ name, arguments: given }, undefined, options)).content[0].text;
  const roots = await call("roots", {});
  const slow = await call("wait", { seconds: 2, text: "slow" });
  await call("steps", { count: 3 }, { onprogress: () => (steps += 1) });
  console.log(JSON.stringify({ roots, slow, steps }));
  await transport.terminateSession();
  await client.close();
}

main(process.argv.slice(2));
