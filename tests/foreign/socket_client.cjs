// The TypeScript SDK's client over a WebSocket: `node socket_client.cjs URL TOOL ARGUMENTS`.
// Prints as JSON what the server is, its tools, and what the tool gave; answers what the server asks.
"use strict";
const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { WebSocketClientTransport } = require("@modelcontextprotocol/sdk/client/websocket.js");
const { ElicitRequestSchema } = require("@modelcontextprotocol/sdk/types.js");

async function main([url, tool, given]) {
  const client = new Client({ name: "socket-client", version: "1.0.0" }, { capabilities: { elicitation: {} } });
  client.setRequestHandler(ElicitRequestSchema, async () => ({ action: "accept", content: { sure: true } }));
  const steps = [];
  await client.connect(new WebSocketClientTransport(new URL(url)));
  const { tools } = await client.listTools();
  const onprogress = ({ progress }) => steps.push(progress);
  const result = await client.callTool({ name: tool, arguments: JSON.parse(given) }, undefined, { onprogress });
  const server = client.getServerVersion();
  console.log(JSON.stringify({ server, tools: tools.map((each) => each.name), result, steps }));
  await client.close();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
