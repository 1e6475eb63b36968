// An agent on the A2A SDK for JavaScript: JSON-RPC at /rpc, and HTTP+JSON at /rest. Its card is another
// after SIGUSR2.
const express = require("express");
const { InMemoryTaskStore, DefaultRequestHandler } = require("@a2a-js/sdk/server");
const sdk = require("@a2a-js/sdk/server/express");
const port = Number(process.argv[2]);
const binding = process.argv[3] || "JSONRPC";
const base = `http://127.0.0.1:${port}`;
const card = {
  name: "Weather Agent", description: "Says what the weather will be.", version: "1.0.0",
  supportedInterfaces: [{ url: binding === "JSONRPC" ? `${base}/rpc` : `${base}/rest`, protocolBinding: binding, protocolVersion: "1.0", tenant: "" }],
  capabilities: { streaming: false, extensions: [] }, defaultInputModes: ["text/plain"], defaultOutputModes: ["text/plain"],
  skills: [{ id: "forecast", name: "Forecast", description: "The weather of tomorrow.", tags: ["weather"], examples: ["Will it rain in Lyon?"], inputModes: [], outputModes: [], securityRequirements: [] }],
  securitySchemes: {}, securityRequirements: [], signatures: [],
};
const executor = { async execute(context, bus) { bus.finished(); }, async cancelTask() {} };
const handler = new DefaultRequestHandler(card, new InMemoryTaskStore(), executor);
const app = express();
const user = sdk.UserBuilder.noAuthentication;
app.use("/.well-known/agent-card.json", sdk.agentCardHandler({ agentCardProvider: async () => card }));
app.use("/rpc", sdk.jsonRpcHandler({ requestHandler: handler, userBuilder: user }));
app.use("/rest", sdk.restHandler({ requestHandler: handler, userBuilder: user }));
process.on("SIGUSR2", () => { card.version = "2.0.0"; card.skills[0].name = "Long forecast"; });
app.listen(port, "127.0.0.1");
