
"use strict";
// Renders openapi.json. Text always goes in as text, never as HTML.

const SHOWN_DEPTH = 4;
let api = null;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

// A line of CommonMark as far as docstrings use it: `code`, nothing else.
function prose(text) {
  const parts = (text || "").split("`");
  return parts.map((part, i) => (i % 2 ? make("code", {}, part) : part));
}

// A path that breaks before its slashes, where it has to break.
function pathOf(path) {
  const parts = path.split(/(?=\/)/);
  return make("span", { class: "path" }, ...parts.flatMap((part) => [make("wbr"), part]));
}

function resolved(node) {
  while (node && node.$ref) {
    node = node.$ref.slice(2).split("/").reduce((at, key) => at && at[key], api);
  }
  return node || {};
}

function nameOf(schema) {
  return schema && schema.$ref ? schema.$ref.split("/").pop() : "";
}

function typeOf(schema) {
  if (schema === true || schema === undefined) return "anything";
  const name = nameOf(schema);
  const plain = resolved(schema);
  if (plain.enum) return plain.enum.map((each) => JSON.stringify(each)).join(" | ");
  if ("const" in plain) return JSON.stringify(plain.const);
  const union = plain.anyOf || plain.oneOf;
  if (union) {
    return union.map(typeOf).filter((each) => each !== "null").join(" | ") || "null";
  }
  if (plain.type === "array") return "list of " + typeOf(plain.items);
  if (name) return name;
  if (plain.type === "object" && plain.additionalProperties && plain.additionalProperties !== true) {
    return "map to " + typeOf(plain.additionalProperties);
  }
  let type = Array.isArray(plain.type) ? plain.type.join(" | ") : plain.type || "anything";
  if (plain.format) type += " (" + plain.format + ")";
  return type;
}

// The object inside a schema: itself, the items of a list, the one that is not null in a union.
function objectIn(schema) {
  const plain = resolved(schema);
  if (plain.properties) return plain;
  if (plain.type === "array" && plain.items) return objectIn(plain.items);
  for (const each of plain.anyOf || plain.oneOf || []) {
    const found = objectIn(each);
    if (found) return found;
  }
  return null;
}

function bounds(schema) {
  const plain = resolved(schema);
  const said = [];
  if (plain.default !== undefined && plain.default !== null && plain.default !== "") {
    said.push("default " + JSON.stringify(plain.default));
  }
  if (plain.minimum !== undefined) said.push("≥ " + plain.minimum);
  if (plain.exclusiveMinimum !== undefined) said.push("> " + plain.exclusiveMinimum);
  if (plain.maximum !== undefined) said.push("≤ " + plain.maximum);
  if (plain.maxLength !== undefined) said.push("at most " + plain.maxLength + " characters");
  if (plain.maxItems !== undefined) said.push("at most " + plain.maxItems);
  return said.join(", ");
}

function shape(schema, depth = 0) {
  const object = objectIn(schema);
  const box = make("div", { class: "shape" });
  if (!object) {
    box.append(typeOf(schema));
    return box;
  }
  const table = make("table");
  for (const [name, member] of Object.entries(object.properties)) {
    const needed = (object.required || []).includes(name);
    const said = make("td", {}, ...prose(member.description || resolved(member).description));
    const limits = bounds(member);
    if (limits) said.append(said.textContent ? " " : "", make("span", { class: "about" }, limits));
    const inner = objectIn(member);
    if (inner && inner !== object && depth < SHOWN_DEPTH) {
      // Made when it is opened: shapes may hold themselves.
      const more = make("details", {}, make("summary", {}, "its members"));
      more.addEventListener("toggle", () => {
        if (more.open && more.children.length === 1) more.append(shape(member, depth + 1));
      });
      said.append(more);
    }
    table.append(make("tr", {},
      make("th", {}, make("code", {}, name), needed ? make("span", { class: "must", title: "required" }, " *") : ""),
      make("td", { class: "type" }, typeOf(member)), said));
  }
  box.append(table);
  return box;
}

function parameterTable(parameters) {
  const table = make("table");
  for (const each of parameters) {
    const said = make("td", {}, ...prose(each.description));
    const limits = bounds(each.schema);
    if (limits) said.append(" ", make("span", { class: "about" }, limits));
    table.append(make("tr", {},
      make("th", {}, make("code", {}, each.name), each.required ? make("span", { class: "must" }, " *") : ""),
      make("td", { class: "type" }, (each.in === "query" ? "" : each.in + ", ") + typeOf(each.schema)),
      said));
  }
  return table;
}

function answers(responses) {
  const box = make("div");
  const errors = make("div", { class: "errors" });
  for (const [status, given] of Object.entries(responses)) {
    const answer = resolved(given);
    if (Number(status) >= 400) {
      errors.append(make("span", {}, make("span", { class: "status bad" }, status), answer.description));
      continue;
    }
    const [media, content] = Object.entries(answer.content || {})[0] || [null, null];
    box.append(make("div", {},
      make("span", { class: "status fine" }, status), answer.description,
      media ? make("span", { class: "about" }, " – " + media) : ""));
    if (content && media.endsWith("json") && objectIn(content.schema)) box.append(shape(content.schema));
  }
  box.append(errors);
  return box;
}

function sample(schema, depth = 0) {
  const plain = resolved(schema);
  if (plain.examples && plain.examples.length) return plain.examples[0];
  if (plain.default !== undefined) return plain.default;
  if (plain.enum) return plain.enum[0];
  const union = plain.anyOf || plain.oneOf;
  if (union) return sample(union[0], depth);
  if (plain.type === "array") return [];
  if (plain.properties && depth < SHOWN_DEPTH) {
    const needed = plain.required || Object.keys(plain.properties).slice(0, 3);
    return Object.fromEntries(needed.map((name) => [name, sample(plain.properties[name], depth + 1)]));
  }
  return { string: "", integer: 0, number: 0, boolean: false }[plain.type] ?? {};
}

function field(parameter) {
  const values = resolved(parameter.schema).enum;
  if (values) {
    return make("select", {}, make("option", { value: "" }, ""),
      ...values.map((each) => make("option", { value: each }, String(each))));
  }
  return make("input", { spellcheck: "false", autocomplete: "off" });
}

function tryIt(method, path, operation) {
  const fields = (operation.parameters || []).map((each) => [each, field(each)]);
  const body = operation.requestBody && resolved(operation.requestBody);
  const text = body ? make("textarea", { spellcheck: "false", "aria-label": "Body" }) : null;
  if (text) {
    const schema = Object.values(body.content)[0].schema;
    text.value = body.required ? JSON.stringify(sample(schema), null, 2) : "";
    text.placeholder = body.required ? "" : "A body is optional.";
  }
  const line = make("span", { class: "path" });
  const result = make("div", { "aria-live": "polite" });

  function request() {
    let target = path;
    const query = new URLSearchParams();
    const headers = {};
    for (const [parameter, input] of fields) {
      if (parameter.in === "path") {
        target = target.replace("{" + parameter.name + "}", encodeURIComponent(input.value));
      } else if (input.value && parameter.in === "header") headers[parameter.name] = input.value;
      else if (input.value) query.append(parameter.name, input.value);
    }
    // Relative to this page, so that it works below a prefix, too.
    const asked = "." + target + (String(query) ? "?" + query : "");
    return { asked, headers };
  }
  const shown = () => { line.textContent = method.toUpperCase() + " " + request().asked.slice(1); };
  for (const [, input] of fields) input.addEventListener("input", shown);
  shown();

  async function send() {
    const { asked, headers } = request();
    const init = { method: method.toUpperCase(), headers };
    if (text && text.value.trim()) {
      init.body = text.value;
      headers["Content-Type"] = "application/json";
    }
    const begun = performance.now();
    try {
      const response = await fetch(asked, init);
      let told = await response.text();
      try { told = JSON.stringify(JSON.parse(told), null, 2); } catch { /* it is no JSON: as it is */ }
      const took = Math.round(performance.now() - begun);
      result.replaceChildren(
        make("div", { class: "row" },
          make("span", { class: "status " + (response.ok ? "fine" : "bad") }, String(response.status)),
          make("span", { class: "path" }, `${took} ms, request ${response.headers.get("X-Request-Id")}`)),
        told ? make("pre", {}, told) : "");
    } catch (error) {
      result.replaceChildren(make("p", { class: "bad" }, "No answer: " + error.message));
    }
  }
  const label = ([parameter, input]) =>
    make("label", {}, make("span", {}, make("code", {}, parameter.name),
      parameter.required ? make("span", { class: "must" }, " *") : ""), input);
  return make("form", { class: "try", onsubmit: (event) => { event.preventDefault(); send(); } },
    ...fields.map(label), text || "",
    make("div", { class: "row" }, make("button", {}, "Send"), line), result);
}

function rendered(method, path, operation) {
  const box = make("div", { class: "inside" });
  const details = make("details", { class: "operation", id: operation.operationId },
    make("summary", {},
      make("span", { class: "method " + method }, method.toUpperCase()),
      pathOf(path),
      make("span", { class: "says" }, ...prose(operation.summary))),
    box);
  details.addEventListener("toggle", () => {
    if (!details.open || box.children.length) return;
    if (operation.description) box.append(make("p", {}, ...prose(operation.description)));
    if (operation.parameters) box.append(make("h4", {}, "Parameters"), parameterTable(operation.parameters));
    if (operation.requestBody) {
      const body = resolved(operation.requestBody);
      box.append(make("h4", {}, body.required ? "Body" : "Body (optional)"),
        shape(Object.values(body.content)[0].schema));
    }
    box.append(make("h4", {}, "Answers"), answers(operation.responses));
    const streams = JSON.stringify(operation.responses["200"] || {}).includes("event-stream");
    if (!streams && !operation.responses["101"]) box.append(tryIt(method, path, operation));
  });
  return details;
}

function filterBy(words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  for (const each of document.querySelectorAll("[data-words]")) {
    each.classList.toggle("hidden", !wanted.every((word) => each.dataset.words.includes(word)));
  }
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.tagName === "DETAILS") {
    target.open = true;
    target.scrollIntoView();
  }
}

async function start() {
  const main = document.getElementById("operations");
  const index = document.getElementById("index");
  try {
    const response = await fetch("openapi.json");
    if (!response.ok) throw new Error("status " + response.status);
    api = await response.json();
  } catch (error) {
    main.replaceChildren(make("p", { class: "bad" }, "openapi.json cannot be read: " + error.message));
    return;
  }
  document.getElementById("summary").replaceChildren(api.info.summary);
  document.getElementById("facts").replaceChildren(
    `Version ${api.info.version}. `, ...prose(api.info.description), " The same for programs: ",
    make("a", { href: "openapi.json" }, "openapi.json"), ".");
  main.replaceChildren();
  for (const tag of api.tags) {
    const section = make("section", {}, make("h2", {}, tag.name), make("p", { class: "about" }, ...prose(tag.description)));
    const links = make("div", {}, make("h3", {}, tag.name));
    for (const [path, methods] of Object.entries(api.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (!operation.tags.includes(tag.name)) continue;
        const words = [method, path, operation.summary, tag.name].join(" ").toLowerCase();
        const details = rendered(method, path, operation);
        details.dataset.words = words;
        const link = make("a", { href: "#" + operation.operationId, onclick: () => setTimeout(openTarget) },
          make("span", { class: "method " + method }, method.toUpperCase()),
          pathOf(path));
        link.dataset.words = words;
        section.append(details);
        links.append(link);
      }
    }
    section.dataset.words = links.dataset.words =
      [...section.querySelectorAll("[data-words]")].map((each) => each.dataset.words).join(" ");
    main.append(section);
    index.append(links);
  }
  document.getElementById("filter").addEventListener("input", (event) => filterBy(event.target.value));
  addEventListener("hashchange", openTarget);
  openTarget();
}

start();
