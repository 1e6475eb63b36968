// The fields of a form for one value each, and what is wrong with what stands in them.
import { element } from "./site.js";
import { integer, isNumber, parse, same, shown, stringify } from "./tool-json.js";
import { bounds, FORMATS } from "./tool-schema.js";

/** More choices than these are typed, and completed, instead of chosen from a list. */
const MOST_CHOICES = 100;
/** How many of those are offered while somebody types. */
const MOST_OFFERED = 300;
/** How long a pattern may take, in milliseconds: one that takes longer is left to the server. */
const PATIENCE = 250;

/** What stands in a field for JSON and is none. */
const UNREADABLE = Symbol("unreadable");
export const NO_JSON = 'This is no JSON: a text stands in double quotes, and no comma at the end, as in {"city": "Lisbon"}.';

let numbered = 0;
const fresh = () => `field-${(numbered += 1)}`;

/** Whether `value` is like `pattern`; `null` where that cannot be said, or not in time. */
function matches(pattern, value) {
  const worker = new Worker(new URL("./tool-pattern.js", import.meta.url));
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(null), PATIENCE);
    worker.onmessage = ({ data }) => { clearTimeout(timer); resolve(data); };
    worker.onerror = () => { clearTimeout(timer); resolve(null); };
    worker.postMessage({ pattern, value });
  }).finally(() => worker.terminate());
}

/** What is wrong with a string, in words; "" where nothing is. */
async function stringFault(value, schema) {
  const length = [...value].length;
  if (length < schema.minLength) return `Write ${schema.minLength} characters at least; these are ${length}.`;
  if (length > schema.maxLength) return `Write ${schema.maxLength} characters at most; these are ${length}.`;
  const format = Object.hasOwn(FORMATS, schema.format ?? "") ? FORMATS[schema.format] : null;
  if (format && length < 10_000 && !format[0].test(value)) return `Write ${format[1]}.`;
  if (typeof schema.pattern === "string" && (await matches(schema.pattern, value)) === false) {
    return `This has to be like ${shown(schema.pattern, 120)}.`;
  }
  return "";
}

function numberFault(value, schema, whole) {
  const given = isNumber(value) ? Number(stringify(value)) : NaN;
  if (Number.isNaN(given)) return whole ? "Write a whole number, such as 42." : "Write a number, such as 4.2.";
  if (given < schema.minimum) return `Write ${schema.minimum} or more.`;
  if (given > schema.maximum) return `Write ${schema.maximum} or less.`;
  if (given <= schema.exclusiveMinimum) return `Write more than ${schema.exclusiveMinimum}.`;
  if (given >= schema.exclusiveMaximum) return `Write less than ${schema.exclusiveMaximum}.`;
  if (schema.multipleOf > 0) {
    const times = given / schema.multipleOf;
    if (Math.abs(times - Math.round(times)) > 1e-9) return `Write a multiple of ${schema.multipleOf}.`;
  }
  return "";
}

/** What a field is called: its name, its title, and whether it has to be filled in. */
export function caption(context, schema) {
  const title = typeof schema.title === "string" && schema.title !== context.name ? shown(schema.title, 120) : "";
  return [
    element("bdi", { class: "mono" }, shown(context.name, 120)),
    ...(title ? [" ", element("bdi", { class: "tools-caption" }, title)] : []),
    ...(context.required ? [" ", element("span", { class: "tools-needed" }, "required")] : []),
  ];
}

/** What is said below a caption. */
export function hints(schema, id) {
  const said = [];
  if (typeof schema.description === "string" && schema.description) {
    said.push(element("bdi", { class: "tools-said" }, shown(schema.description, 1500)));
  }
  const limits = bounds(schema);
  const examples = Array.isArray(schema.examples) ? schema.examples.slice(0, 3).map((each) => shown(each, 60)).join(", ") : "";
  const rest = [limits, examples && `for example ${examples}`, schema.unchecked && "the server checks more than this form can"];
  const line = rest.filter(Boolean).join("; ");
  if (line) said.push(element("span", {}, element("bdi", {}, line)));
  return said.length ? element("div", { class: "hint", id }, said) : null;
}

/** A text in an input that grows, or in one of a certain kind. */
function textControl(schema, id, attributes = {}) {
  const kinds = { email: "email", uri: "url", date: "date", "date-time": "datetime-local", password: "password" };
  const kind = Object.hasOwn(kinds, schema.format ?? "") ? kinds[schema.format] : schema.writeOnly === true ? "password" : "";
  const shared = { id, autocomplete: "off", ...attributes };
  if (kind || schema.pattern || schema.maxLength <= 80) {
    return element("input", { type: kind || "text", ...(kind === "datetime-local" ? { step: 1 } : {}), ...shared });
  }
  return element("textarea", { rows: 1, class: "tools-text", spellcheck: "false", ...shared });
}

/**
 * A field for one value. `read` gives the value that stands in the control, `write` puts one there
 * (false: it cannot), `fault` says what is wrong with a value. An empty control is no value, unless
 * an empty text or null was put there, which a `literal` one writes out.
 */
function field(context, known, control, { read, write, fault, literal = false }) {
  const { schema, nullable } = known;
  const nothing = context.required && nullable ? null : undefined;
  let empty = nothing;
  const error = element("p", { class: "error", id: `${control.id}-error`, hidden: true });
  const hint = hints(schema, `${control.id}-hint`);
  const label = element("label", { for: control.id }, caption(context, schema));
  const described = [hint && hint.id, error.id].filter(Boolean).join(" ");
  control.setAttribute("aria-describedby", described);
  if (context.required && !nullable) control.setAttribute("aria-required", "true");
  const tell = (message) => {
    error.textContent = message;
    error.hidden = !message;
    if (message) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  };
  control.addEventListener("input", () => { empty = nothing; tell(""); context.form.changed(); });
  const current = () => (control.value === "" ? empty : read());
  return {
    node: element("div", { class: "field" }, label, hint, control, error),
    control,
    get() {
      const value = current();
      return value === UNREADABLE ? undefined : value;
    },
    set(value) {
      tell("");
      empty = !literal && (value === null || value === "") ? value : nothing;
      if (value === undefined || (!literal && (value === "" || (value === null && nullable)))) {
        control.value = "";
        return true;
      }
      return write(value);
    },
    rename: (name) => label.replaceChildren(...caption({ ...context, name }, schema)),
    async check() {
      const value = current();
      let message = "";
      if (value === undefined) message = context.required ? "This is required." : "";
      else if (value !== null || !nullable) message = await fault(value);
      tell(message);
      return message ? [{ control, message: `${shown(context.name, 60)}: ${message}` }] : [];
    },
  };
}

function placeholder(schema) {
  return schema.default === undefined ? null : `default: ${schema.default === "" ? "empty" : shown(schema.default, 60)}`;
}

const local = (date) => new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);

export function stringField(context, known) {
  const { schema } = known;
  const control = textControl(schema, fresh(), { placeholder: placeholder(schema) });
  let original; // a moment as it was written, and what the control makes of it
  return field(context, known, control, {
    read() {
      if (control.type !== "datetime-local") return control.value;
      if (original?.shown === control.value) return original.written;
      return new Date(control.value).toISOString().replace(".000Z", "Z");
    },
    write(value) {
      if (typeof value !== "string") return false;
      original = undefined;
      control.value = value;
      if (control.type === "datetime-local") {
        const moment = new Date(value);
        if (Number.isNaN(moment.valueOf())) return false;
        control.value = local(moment);
        original = { written: value, shown: control.value };
      }
      return control.value !== "" && (control.type !== "date" || control.value === value);
    },
    fault: (value) => (typeof value === "string" ? stringFault(value, schema) : "Write a text."),
  });
}

export function numberField(context, known) {
  const { schema } = known;
  const whole = known.kind === "integer";
  const control = element("input", {
    id: fresh(), type: "text", inputmode: whole && schema.minimum >= 0 ? "numeric" : "text", autocomplete: "off", placeholder: placeholder(schema),
  });
  return field(context, known, control, {
    read() {
      const given = control.value.trim();
      if (/^[+-]?\d+$/.test(given)) return integer(given.replace(/^\+/, ""));
      const value = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(given) ? Number(given) : NaN;
      return Number.isFinite(value) && (!whole || Number.isInteger(value)) ? value : control.value;
    },
    write(value) {
      if (!isNumber(value) && typeof value !== "string") return false;
      control.value = typeof value === "string" ? value : stringify(value);
      return true;
    },
    fault: (value) => numberFault(value, schema, whole),
  });
}

/** One of some values, from a list; of very many, by typing. */
export function choiceField(context, known) {
  const { schema, values, nullable } = known;
  const options = nullable ? [...values, { value: null, label: "null" }] : values;
  if (options.length > MOST_CHOICES) return typedChoice(context, known);
  const fixed = context.required && options.length === 1;
  const control = element("select", { id: fresh() });
  if (!fixed) control.append(element("option", { value: "" }, context.required ? "Choose …" : `Not given${schema.default === undefined ? "" : ` (${placeholder(schema)})`}`));
  control.append(...options.map(({ label }, at) => element("option", { value: String(at) }, label)));
  return field(context, { schema, nullable: false }, control, {
    read: () => options[Number(control.value)].value,
    write(value) {
      const at = options.findIndex((each) => same(each.value, value));
      if (at >= 0) control.value = String(at);
      return at >= 0;
    },
    fault: () => "",
  });
}

function typedChoice(context, known) {
  const { values } = known;
  const byLabel = new Map(values.map((each) => [each.label, each.value]));
  const id = fresh();
  const list = element("datalist", { id: `${id}-list` });
  const control = element("input", { id, type: "text", list: list.id, autocomplete: "off", placeholder: `one of ${values.length.toLocaleString("en")} values` });
  const offer = () => {
    const begun = control.value.toLowerCase();
    const found = [];
    for (const each of values) {
      if (found.length >= MOST_OFFERED) break;
      if (each.label.toLowerCase().includes(begun)) found.push(element("option", { value: each.label }));
    }
    list.replaceChildren(...found);
  };
  control.addEventListener("input", offer);
  offer();
  const made = field(context, known, control, {
    read: () => (byLabel.has(control.value) ? byLabel.get(control.value) : control.value),
    write(value) {
      const found = values.find((each) => same(each.value, value));
      control.value = found ? found.label : typeof value === "string" ? value : "";
      return found !== undefined || typeof value === "string";
    },
    fault: () => (byLabel.has(control.value) ? "" : "This is none of the values; write the beginning of one to see them."),
  });
  made.node.append(list);
  return made;
}

export function booleanField(context, known) {
  const values = [{ value: true, label: "true" }, { value: false, label: "false" }];
  return choiceField(context, { ...known, values });
}

/** A part as JSON: what no form can say; `why` not, in a few words. */
export function jsonField(context, known, why = "") {
  const { schema } = known;
  const control = element("textarea", { id: fresh(), rows: 2, class: "tools-json", spellcheck: "false", placeholder: placeholder(schema) });
  const read = () => {
    try {
      return parse(control.value);
    } catch {
      return UNREADABLE;
    }
  };
  control.addEventListener("input", () => {
    if (control.value && read() === UNREADABLE) context.form.broken.add(control);
    else context.form.broken.delete(control);
  });
  const made = field(context, { schema, nullable: false }, control, {
    literal: true,
    read,
    write(value) {
      context.form.broken.delete(control);
      control.value = stringify(value, 2);
      control.rows = Math.min(20, control.value.split("\n").length + 1);
      return true;
    },
    fault: (value) => (value === UNREADABLE ? NO_JSON : ""),
  });
  const reason = schema.broken ? `it refers to ${schema.broken}, which is not there` : why;
  control.before(element("span", { class: "hint" }, reason ? `As JSON: ${reason}.` : "As JSON."));
  return made;
}
