// A small MCP client: it calls one tool through the facade, and can be cancelled.
import { base, csrfToken } from "./site.js";
import { isObject, parse, shown, stringify } from "./tool-json.js";

const MODERN = "2026-07-28";
const LEGACY = "2025-11-25";
const PREFIX = "io.modelcontextprotocol/";
const CLIENT = { name: "mcp-discovery tools page", version: "1" };
/** The largest answer that is taken, in characters, and how often a tool may ask back. */
const MOST = 64 * 2 ** 20;
const MOST_ROUNDS = 10;

/**
 * Why there is no result. `kind` is refused (by the facade), protocol (the server's error), broken
 * (the connection: whether the call was made is not known), unreachable (nothing was sent),
 * unanswerable (the tool asks for what a page cannot give) or late.
 */
export class CallError extends Error {
  constructor(kind, message, facts = {}) {
    super(message);
    this.kind = kind;
    this.facts = facts;
  }
}

/** `value` as a header's value, as MCP writes what a header could not hold. */
function headerValue(value) {
  if (/^[!-~](?:[ -~]*[!-~])?$/.test(value) && !/^=\?base64\?.*\?=$/.test(value)) return value;
  const bytes = new TextEncoder().encode(value);
  return `=?base64?${btoa(Array.from(bytes, (each) => String.fromCharCode(each)).join(""))}?=`;
}

/** The arguments that a schema wants in headers besides (`x-mcp-header`). */
function parameterHeaders(schema, given, depth = 0) {
  const found = {};
  if (depth > 16 || !isObject(schema?.properties) || !isObject(given)) return found;
  for (const [name, each] of Object.entries(schema.properties)) {
    const value = Object.hasOwn(given, name) ? given[name] : undefined;
    const header = isObject(each) ? each["x-mcp-header"] : undefined;
    if (typeof header === "string" && /^[\w!#$%&'*+.^`|~-]+$/.test(header) && ["string", "integer", "boolean"].includes(each.type) && ["string", "number", "boolean"].includes(typeof value)) {
      found[`Mcp-Param-${header}`] = headerValue(String(value));
    }
    Object.assign(found, parameterHeaders(each, value, depth + 1));
  }
  return found;
}

async function* parts(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let size = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      if ((size += value.length) > MOST) throw new CallError("broken", "The answer is over 64 MiB; ask for less, or connect to the server itself.");
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The data of each server-sent event; what else an event says is put into `place`. */
async function* events(body, place) {
  let waiting = "";
  let chunks = [];
  for await (const part of parts(body)) {
    chunks.push(part);
    if (!part.includes("\n") && !part.includes("\r")) continue;
    waiting += chunks.join("");
    chunks = [];
    const blocks = waiting.split(/\r\n\r\n|\n\n|\r\r/);
    waiting = blocks.pop();
    for (const block of blocks) {
      const data = [];
      for (const line of block.split(/\r\n|\n|\r/)) {
        const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
        if (name === "data") data.push(value);
        else if (name === "id" || name === "retry") place[name] = value;
      }
      if (data.some(Boolean)) yield data.join("\n");
    }
  }
}

function refusal(problem, status) {
  return new CallError("refused", problem.detail ?? problem.title ?? `HTTP ${status}`, { title: problem.title, status });
}

/**
 * One request, a POST of `message` where there is one; `receive` gets each message that comes, and
 * its text. `place` is where a stream ended: its last `id`, and after how many ms to `retry`.
 */
async function send(path, message, { headers = {}, signal, keepalive, place = {} } = {}, receive = () => {}) {
  const given = { Accept: message ? "application/json, text/event-stream" : "text/event-stream", ...headers };
  const more = message && { method: "POST", body: stringify(message) };
  if (message) given["Content-Type"] = "application/json";
  if (message && csrfToken()) given["X-CSRF-Token"] = csrfToken();
  let response;
  try {
    response = await fetch(new URL(path, base), { headers: given, signal, keepalive, ...more });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new CallError("broken", "The facade cannot be reached, or the connection broke before it answered.");
  }
  const type = response.headers.get("Content-Type") ?? "";
  try {
    if (type.startsWith("text/event-stream")) {
      for await (const data of events(response.body, place)) await receive(parse(data), data);
    } else {
      let text = "";
      if (response.body) for await (const part of parts(response.body)) text += part;
      const body = text.trim() ? parse(text) : null;
      if (!response.ok && !isObject(body?.error)) throw isObject(body) ? refusal(body, response.status) : new CallError("protocol", `It answered with HTTP ${response.status}.`);
      if (body !== null) await receive(body, text);
    }
  } catch (error) {
    if (error instanceof CallError || signal?.aborted) throw error;
    if (error instanceof SyntaxError) throw new CallError("protocol", `The answer is not what MCP sends (HTTP ${response.status}, ${shown(type, 60) || "no type"}).`);
    throw new CallError("broken", "The answer is not whole; what the server did is not known.");
  }
  return response;
}

function errorOf({ code, message, data }) {
  if (isObject(data) && typeof data.detail === "string" && String(data.type).startsWith("urn:mcp-discovery:")) return refusal(data, data.status);
  return new CallError("protocol", shown(message ?? "", 2000) || "It gave no reason.", { code, data });
}

/** The answer to one request `message`: its result, and the text that it came as. */
async function ask(path, message, options, receive = async () => {}) {
  let answer;
  const take = async (each, text) => {
    const isAnswer = isObject(each) && !("method" in each) && (each.id === message.id || (each.id === null && each.error));
    if (isAnswer) answer = { message: each, text };
    else await receive(each);
  };
  const place = {};
  const response = await send(path, message, { ...options, place }, take);
  // A server may end a stream before its answer: it goes on where it ended (MCP 2025-11-25).
  while (!answer && place.id) {
    await new Promise((resolve) => { setTimeout(resolve, Math.min(Number(place.retry) || 1000, 10_000)); });
    options.signal?.throwIfAborted();
    await send(path, null, { ...options, place, headers: { ...options.headers, "Last-Event-ID": place.id } }, take);
  }
  if (!answer) throw new CallError("broken", "The connection ended without an answer.");
  if (answer.message.error) throw errorOf(answer.message.error);
  return { result: answer.message.result, text: answer.text, response };
}

/**
 * Calls a tool. `call` is {door, server, tool, given, timeout, gateway, modern, schema}: `door` is
 * call_tool (of the facade's own /mcp) or gateway, `timeout` in seconds. `onProgress` is given
 * {progress, total, message}, `onAsk` the parameters of an elicitation, and answers {action, content}.
 * Returns {result, text}; raises CallError, or an AbortError once `signal` says so: the server is told.
 */
export async function callTool(call, { onProgress, onAsk, signal }) {
  // The facade gives up by itself, and says so better.
  const late = AbortSignal.timeout((call.timeout + (call.door === "call_tool" ? 2 : 0)) * 1000);
  const either = AbortSignal.any([signal, late]);
  const options = { onProgress, onAsk, signal: either };
  try {
    if (call.door === "call_tool") {
      const given = { name: call.tool, server: call.server, arguments: call.given, timeout: call.timeout };
      return await modern("mcp", "call_tool", given, {}, {}, options);
    }
    if (!call.modern) return await legacy(call, options);
    return await modern(call.gateway, call.tool, call.given, parameterHeaders(call.schema, call.given), { elicitation: { form: {} } }, options);
  } catch (error) {
    if (late.aborted && !signal.aborted) throw new CallError("late", `It did not answer within ${call.timeout} seconds, and was cancelled.`);
    throw error;
  }
}

const progressOf = (message, token, onProgress) => {
  const { method, params } = message;
  if (method === "notifications/progress" && params?.progressToken === token) onProgress(params);
};

/** Every request stands for itself, and closing its connection cancels it (MCP 2026-07-28). */
async function modern(path, tool, given, headers, clientCapabilities, { onProgress, onAsk, signal }) {
  let more = {};
  for (let round = 1; round <= MOST_ROUNDS; round += 1) {
    const meta = { [`${PREFIX}protocolVersion`]: MODERN, [`${PREFIX}clientInfo`]: CLIENT, [`${PREFIX}clientCapabilities`]: clientCapabilities, progressToken: round };
    const message = { jsonrpc: "2.0", id: round, method: "tools/call", params: { name: tool, arguments: given, ...more, _meta: meta } };
    const routing = { "MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": headerValue(tool), ...headers };
    const { result, text } = await ask(path, message, { headers: routing, signal }, (each) => progressOf(each, round, onProgress));
    if (result?.resultType !== "input_required") return { result, text };
    const inputResponses = {};
    for (const [key, wanted] of Object.entries(result.inputRequests ?? {})) inputResponses[key] = await answered(wanted, onAsk, signal);
    more = { inputResponses, ...(result.requestState === undefined ? {} : { requestState: result.requestState }) };
  }
  throw new CallError("unanswerable", `The tool asked back ${MOST_ROUNDS} times, and still gave no result.`);
}

async function answered({ method, params }, onAsk, signal) {
  if (method === "elicitation/create" && (params?.mode ?? "form") === "form") return onAsk(params, signal);
  if (method === "roots/list") return { roots: [] };
  const wanted = { "sampling/createMessage": "a model's answer (sampling)", "elicitation/create": "somebody to visit a page" }[method];
  throw new CallError("unanswerable", `The tool asks for ${wanted ?? shown(method, 60)}, which this page cannot give.`);
}

/** A session for one call; what the server asks meanwhile is answered beside it (MCP 2025-11-25). */
async function legacy(call, { onProgress, onAsk, signal }) {
  const path = call.gateway;
  const hello = { jsonrpc: "2.0", id: "hello", method: "initialize", params: { protocolVersion: LEGACY, capabilities: { elicitation: {} }, clientInfo: CLIENT } };
  const { result: begun, response } = await ask(path, hello, { signal });
  const session = response.headers.get("Mcp-Session-Id");
  const headers = { "MCP-Protocol-Version": begun.protocolVersion ?? LEGACY, ...(session ? { "Mcp-Session-Id": session } : {}) };
  const id = "call";
  const tell = (message, more = {}) => send(path, { jsonrpc: "2.0", ...message }, { headers, ...more });
  const cancel = () => tell({ method: "notifications/cancelled", params: { requestId: id, reason: "cancelled on the page" } }, { keepalive: true }).catch(() => {});
  const leave = () => { cancel(); end(); };
  const end = () => {
    if (!session) return;
    const token = csrfToken();
    fetch(new URL(path, base), { method: "DELETE", headers: { ...headers, ...(token ? { "X-CSRF-Token": token } : {}) }, keepalive: true }).catch(() => {});
  };
  const respond = async (asked) => {
    let answer;
    try {
      answer = { result: asked.method === "ping" ? {} : await answered(asked, onAsk, signal) };
    } catch (error) {
      answer = { error: { code: -32601, message: error.message } };
    }
    await tell({ id: asked.id, ...answer }, { signal });
  };
  const pending = [];
  addEventListener("pagehide", leave);
  try {
    await tell({ method: "notifications/initialized" }, { signal });
    const message = { jsonrpc: "2.0", id, method: "tools/call", params: { name: call.tool, arguments: call.given, _meta: { progressToken: id } } };
    const { result, text } = await ask(path, message, { headers, signal }, async (each) => {
      if (!isObject(each)) return;
      if (each.id !== undefined && each.method) pending.push(respond(each).catch(() => {}));
      else progressOf(each, id, onProgress);
    });
    return { result, text };
  } catch (error) {
    if (signal.aborted) await cancel();
    throw error;
  } finally {
    removeEventListener("pagehide", leave);
    end();
  }
}
