// One tool: its form, the call with its progress, the questions it asks, and its result.
import { announce, api, base, element, refreshPage } from "./site.js";
import { CallError, callTool } from "./tool-client.js";
import { SchemaForm } from "./tool-form.js";
import { counted, parse, shown, stringify } from "./tool-json.js";
import { readable, release, rendered } from "./tool-results.js";

const place = document.getElementById("call");
const { server, tool, refused, gateway, caller } = place.dataset;
const doors = place.dataset.doors.split(" ").filter(Boolean);
const is = (name) => place.dataset[name] === "true";
/** How often, in milliseconds, it is looked whether its instances are as they were. */
const PAUSE = 10_000;
const MOST_COUNTED = 900_000;
const DOORS = { call_tool: "call_tool of this facade (any server)", gateway: "the gateway (the tool may ask back)" };

let schema = true;
try {
  schema = parse(document.getElementById("input-schema").textContent);
} catch {
  // Nested too deeply: JSON has to do.
}
let counting = 0;
const changed = () => { clearTimeout(counting); counting = setTimeout(countArguments, 600); };
let form;
try {
  form = new SchemaForm(schema, { changed });
} catch {
  form = new SchemaForm(true, { changed }); // what no form can be made of is written as JSON
}

async function tokens(value) {
  if (value.length > MOST_COUNTED) return `not counted: ${counted(value.length, "character")}`;
  try {
    const { tokens: [number], exact } = await api("tokens", { method: "POST", body: { texts: [value] } });
    return `${exact ? "" : "at most "}${counted(number, "token")}`;
  } catch (error) {
    return `not counted: ${shown(error.message, 120)}`;
  }
}

async function countArguments() {
  const value = form.value;
  if (value !== undefined) document.getElementById("cost-arguments").textContent = await tokens(stringify(value));
}

const call = element("button", { type: "submit", class: `button primary${is("destructive") ? " danger" : ""}` }, "Call");
const cancel = element("button", { type: "button", class: "button", hidden: true }, "Cancel");
const seconds = element("input", { id: "timeout", type: "text", inputmode: "numeric", value: "60", size: "5" });
const through = element("select", { id: "door" }, doors.map((each) => element("option", { value: each }, DOORS[each])));
const bar = element("progress", { "aria-label": "Progress", max: "1" });
const told = element("span", {}, "");
const elapsed = element("span", { class: "quiet mono", "aria-hidden": "true" });
const progress = element("div", { class: "tools-progress", hidden: true }, bar, element("p", { class: "row small between" }, told, elapsed));
const questions = element("div");

place.append(element("form", { novalidate: true, class: "tools-call", onsubmit: (event) => { event.preventDefault(); start(); } },
  form.node,
  refused ? null : element("div", { class: "row tools-actions" }, call, cancel,
    element("details", { class: "tools-options" }, element("summary", {}, "Options"), element("div", { class: "row" },
      element("div", { class: "field" }, element("label", { for: "timeout" }, "Give up after, in seconds"), seconds),
      element("div", { class: "field" }, element("label", { for: "door" }, "Through"), through)))),
  progress, questions));
place.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); event.target.form?.requestSubmit(); }
});
countArguments();

/** Whether somebody who knows what it does wants the call made. */
function confirmed(given) {
  const title = element("h2", { id: "confirm-title" }, "This may destroy something");
  const yes = element("button", { class: "button danger", value: "yes" }, `Call ${shown(tool, 40)}`);
  const dialog = element("dialog", { class: "card tools-dialog", "aria-labelledby": title.id },
    element("form", { method: "dialog" }, title,
      element("p", {}, "The server ", element("strong", {}, element("bdi", {}, shown(server, 80))), " says that ", element("code", {}, element("bdi", {}, shown(tool, 120))), " may delete or overwrite what is there. It is called ",
        caller ? ["as ", element("strong", {}, element("bdi", {}, shown(caller, 120)))] : "without a name", ", with:"),
      element("pre", { tabindex: "0", "aria-label": "Arguments" }, element("code", {}, shown(stringify(given, 2), 2_000))),
      element("div", { class: "row" }, element("button", { class: "button", value: "no", autofocus: true }, "Do not call it"), yes)));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue === "yes"); });
  });
}

let asked = 0;

/** A question of the tool's as a form: what somebody answers, or that nobody does. */
function answer({ message, requestedSchema }, signal) {
  const wanted = new SchemaForm(requestedSchema ?? { type: "object" }, { name: "answer" });
  const id = `question-${(asked += 1)}`;
  return new Promise((resolve, reject) => {
    const end = (value) => { node.remove(); resolve(value); };
    const accept = async (event) => {
      event.preventDefault();
      const value = await wanted.checked();
      if (value !== undefined) end({ action: "accept", content: value });
    };
    const button = (label, action) => element("button", { type: "button", class: "button", onclick: () => end({ action }) }, label);
    const node = element("div", { class: "notice tools-question", role: "group", "aria-labelledby": id, tabindex: "-1" },
      element("p", { id }, element("strong", {}, "The tool asks: "), element("bdi", {}, shown(message ?? "", 2_000))),
      element("p", { class: "small quiet" }, "What is answered goes to the server: give it no password."),
      element("div", {}, wanted.node),
      element("div", { class: "row" }, element("button", { type: "button", class: "button primary", onclick: accept }, "Answer"), button("Decline", "decline"), button("Dismiss", "cancel")));
    signal.addEventListener("abort", () => { node.remove(); reject(signal.reason); }, { once: true });
    questions.append(node);
    node.focus();
    announce("The tool asks something.");
  });
}

const WORDS = {
  refused: "The facade refused it",
  protocol: "The server answered with an error of the protocol",
  broken: "The connection broke",
  unanswerable: "The tool asks for more than a page can give",
  late: "It took too long",
};

function failure(error) {
  const known = error instanceof CallError;
  const facts = known ? error.facts : {};
  const code = facts.code === undefined ? "" : ` (code ${facts.code})`;
  const asksBack = known && error.kind === "protocol" && through.value === "call_tool" && /elicitation|sampling/i.test(error.message);
  const unsure = known && (error.kind === "broken" || error.kind === "late");
  const again = is("repeatable")
    ? element("p", {}, "Its server says that repeating it does no harm. ", element("button", { type: "button", class: "button", onclick: () => start() }, "Try again"))
    : element("p", {}, "Whether the server did what it was asked is not known: look before you call it again.");
  return [
    element("div", { class: "notice bad" },
      element("p", {}, element("strong", {}, `${known ? WORDS[error.kind] : "The page failed"}${code}: `), element("bdi", {}, shown(error.message, 4_000))),
      facts.status === 401 ? element("p", {}, element("a", { href: new URL("ui/login", base) }, "Sign in again"), ", then call it again.") : null,
      asksBack ? element("p", {}, "The tool asks back, which call_tool cannot pass on: ", doors.includes("gateway") ? "call it through the gateway, under Options." : "that takes a facade with --gateway.") : null,
      facts.status === 403 && doors.length > 1 ? element("p", {}, "Another way is under Options, Through.") : null,
      unsure ? again : null),
    facts.data === undefined ? null : element("details", {}, element("summary", {}, "What the server says besides"), element("pre", {}, element("code", {}, shown(stringify(facts.data, 2), 20_000)))),
  ].filter(Boolean);
}

function lasted(since) {
  const passed = performance.now() - since;
  return passed < 1000 ? `${Math.round(passed)} ms` : `${(passed / 1000).toFixed(1)} s`;
}

async function start() {
  if (refused || call.disabled) return;
  const given = await form.checked();
  if (given === undefined) return;
  const timeout = Number(seconds.value);
  if (!(timeout > 0 && timeout <= 600)) {
    seconds.closest("details").open = true;
    seconds.focus();
    announce("Give up after 1 to 600 seconds.");
    return;
  }
  if (is("destructive") && !(await confirmed(given))) { call.focus(); return; }
  await run(given, timeout);
}

async function run(given, timeout) {
  const control = new AbortController();
  const since = performance.now();
  const clock = setInterval(() => { elapsed.textContent = lasted(since); }, 100);
  const stop = () => control.abort();
  cancel.addEventListener("click", stop);
  call.disabled = true;
  cancel.hidden = false;
  cancel.focus();
  progress.hidden = false;
  bar.removeAttribute("value");
  told.textContent = "Waiting for the server";
  announce(`Calling ${shown(tool, 60)}`);
  let spoken = performance.now();
  const onProgress = ({ progress: now, total, message }) => {
    if (typeof total === "number" && total > 0 && typeof now === "number") {
      bar.max = total;
      bar.value = Math.min(now, total);
    }
    const share = typeof total === "number" && total > 0 ? `${Math.round((100 * Math.min(now, total)) / total)} %` : `step ${shown(now, 20)}`;
    told.textContent = `${share}${message ? `: ${shown(message, 200)}` : ""}`;
    if (performance.now() - spoken > 5000) {
      spoken = performance.now();
      announce(told.textContent);
    }
  };
  let body;
  let said;
  try {
    const made = { door: through.value, server, tool, given, timeout, gateway, modern: is("modern"), schema };
    const { result, text: raw } = await callTool(made, { onProgress, onAsk: answer, signal: control.signal });
    release();
    said = result?.isError ? "The tool reports an error" : "Done";
    body = [element("p", { class: `notice ${result?.isError ? "bad" : "good"}` }, element("strong", {}, said), ` after ${lasted(since)}.`), ...rendered(result, raw)];
    const words = readable(result);
    const cost = document.getElementById("cost-result");
    cost.textContent = "counting";
    tokens(words).then((number) => { cost.textContent = number; });
  } catch (error) {
    if (control.signal.aborted) {
      said = "Cancelled";
      body = [element("p", { class: "notice" }, element("strong", {}, "Cancelled"), ` after ${lasted(since)}. The server was told; what it had done by then stays done.`)];
    } else {
      said = error instanceof CallError ? WORDS[error.kind] : "The page failed";
      body = failure(error);
    }
  } finally {
    clearInterval(clock);
    cancel.removeEventListener("click", stop);
    call.disabled = false;
    cancel.hidden = true;
    progress.hidden = true;
    questions.replaceChildren();
  }
  const section = document.getElementById("result");
  section.hidden = false;
  document.getElementById("result-body").replaceChildren(...body);
  section.focus();
  announce(`${said} after ${lasted(since)}`);
}

setInterval(() => { if (!document.hidden) refreshPage(); }, PAUSE);
