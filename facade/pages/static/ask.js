// Asks a question and shows each step to its answer as it is made.

import { announce, element, Problem, request, statusMark, text } from "./site.js";

const form = document.getElementById("ask");
const stop = document.getElementById("stop");
const answer = document.getElementById("answer");
const figures = document.getElementById("figures");
const steps = document.getElementById("steps");
const number = new Intl.NumberFormat("en");
let asked = null; // what stops the question that is being answered
let calls = new Map(); // the calls that are shown, by their numbers

/** The events of a stream, each a name and its data. */
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const name = /^event: (.*)$/m.exec(block)?.[1];
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (name && data) yield [name, JSON.parse(data)];
    }
  }
}

function step(...parts) {
  const made = element("li", { class: "card" }, ...parts);
  steps.append(made);
  return made;
}

function tool({ server, tool: name }) {
  return element("bdi", { class: "mono" }, text(`${server} · ${name}`));
}

function listed(tools) {
  return tools.length ? tools.flatMap((each, at) => [at ? ", " : "", tool(each)]) : "no tool";
}

/** What the model has said in this turn is no answer: it goes on. */
function setAside() {
  if (answer.textContent) step(element("p", { class: "ask-said" }, answer.textContent));
  answer.replaceChildren();
}

const HANDLERS = {
  search: ({ query, tools }) => step("Found ", ...[listed(tools)].flat(), element("span", { class: "quiet small" }, " for ", element("bdi", {}, text(query)))),
  text: ({ text: said }) => answer.append(text(said)),
  retry: ({ why, seconds }) => {
    answer.replaceChildren();
    step(statusMark("degraded", "Again"), ` in ${seconds} s: `, text(why));
  },
  usage: (told) => {
    if (told.calls) setAside();
    figures.textContent = used(told);
  },
  call: (told) => {
    const state = element("span", { class: "quiet small" }, " … is called");
    const body = element("details", {}, element("summary", {}, tool(told), state), element("pre", { tabindex: 0, "aria-label": "Arguments" }, element("code", {}, text(JSON.stringify(told.arguments, null, 2)))));
    calls.set(told.number, { body, state });
    step(body);
  },
  result: (told) => {
    const call = calls.get(told.number);
    if (!call) return;
    call.state.replaceChildren(" ", statusMark(told.success ? "healthy" : "down", told.success ? "done" : "failed"), ` ${number.format(told.durationMs)} ms`);
    call.body.append(element("pre", { tabindex: 0, "aria-label": "Result" }, element("code", {}, text(told.text))));
  },
  done: (told) => {
    if (told.cut) answer.append(element("p", { class: "notice warn" }, "The answer was cut: there was no room for more."));
    figures.textContent = `${told.provider}, ${told.model}: ${used(told.usage)}, ${told.turns} turns, ${told.calls} calls, ${number.format(Math.round(told.durationMs / 100) / 10)} s. Request ${told.requestId}.`;
    announce("Answered");
  },
  error: (told) => failed(told.detail || told.error, told.requestId),
};

function used({ inputTokens, outputTokens }) {
  return `${number.format(inputTokens + outputTokens)} tokens`;
}

function failed(why, id) {
  answer.append(element("p", { class: "notice bad", role: "alert" }, text(why), id && ` (request ${id})`));
}

async function run(question, preferredProvider) {
  asked = new AbortController();
  stop.disabled = false;
  answer.replaceChildren();
  steps.replaceChildren();
  figures.textContent = "";
  calls = new Map();
  document.getElementById("answered").hidden = false;
  answer.setAttribute("aria-busy", "true");
  let ended = false;
  try {
    const response = await request(form.dataset.api, {
      method: "POST",
      body: { question, preferredProvider },
      headers: { Accept: "text/event-stream" },
      signal: asked.signal,
    });
    for await (const [name, told] of eventsOf(response)) {
      HANDLERS[name]?.(told);
      ended ||= name === "done" || name === "error";
    }
    if (!ended) failed("The answer broke off; ask again.");
  } catch (error) {
    if (error.name === "AbortError") {
      step("Stopped.");
      announce("Stopped");
    } else {
      failed(error instanceof Problem ? error.detail : "The answer broke off; ask again.");
    }
  }
  answer.setAttribute("aria-busy", "false");
  for (const { state } of calls.values()) {
    if (state.textContent === " … is called") state.textContent = " not awaited";
  }
  asked = null;
  stop.disabled = true;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (asked) return;
  const question = form.question.value.trim();
  if (question) run(question, form.provider.value);
});
form.question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
stop.addEventListener("click", () => asked?.abort());
