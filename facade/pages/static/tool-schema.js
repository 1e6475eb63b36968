// JSON Schema (2020-12) as a form needs it: references followed, parts joined, one kind for each.
import { isObject, same, shown, typeOf } from "./tool-json.js";

/** How many references, or parts of one schema, are followed. */
const MOST_STEPS = 32;
/** How many choices within choices are looked into. */
const DEEPEST = 8;
/** Keywords that a form cannot check: the server does. */
const UNCHECKED = ["not", "if", "dependentSchemas", "dependentRequired", "contains", "unevaluatedProperties", "propertyNames", "patternProperties"];

/** Formats that a form checks: how they are written, and in words. */
export const FORMATS = {
  email: [/^[^\s@]+@[^\s@]+$/, "an e-mail address"],
  uri: [/^[A-Za-z][A-Za-z0-9+.-]*:[^\s]+$/, "a URI, such as https://example.com/"],
  uuid: [/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i, "a UUID"],
  date: [/^\d{4}-\d\d-\d\d$/, "a date, such as 2026-12-01"],
  time: [/^\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?$/i, "a time, such as 14:30:00Z"],
  ipv4: [/^(\d{1,3}\.){3}\d{1,3}$/, "an IPv4 address"],
};

const has = Object.hasOwn;
const own = (object, key) => (isObject(object) && has(object, key) ? object[key] : undefined);

function target(root, reference) {
  if (typeof reference !== "string") return undefined;
  const id = own(root, "$id");
  const local = typeof id === "string" && id && reference.startsWith(id) ? reference.slice(id.length) || "#" : reference;
  if (!local.startsWith("#")) return undefined;
  if (local === "#") return root;
  if (!local.startsWith("#/")) {
    const name = local.slice(1);
    return Object.values(own(root, "$defs") ?? {}).find((each) => own(each, "$anchor") === name || own(each, "$dynamicAnchor") === name);
  }
  let found = root;
  try {
    for (const part of decodeURIComponent(local.slice(2)).split("/")) {
      const key = part.replaceAll("~1", "/").replaceAll("~0", "~");
      if (typeof found !== "object" || found === null || !has(found, key)) return undefined;
      found = found[key];
    }
  } catch {
    return undefined; // no percent-encoding
  }
  return found;
}

function joined(one, other) {
  const made = { ...one };
  for (const [key, value] of Object.entries(other)) {
    if (key === "__proto__" || !has(made, key) || same(made[key], value)) {
      Object.defineProperty(made, key, { value, enumerable: true, configurable: true, writable: true });
    } else if (key === "properties" && isObject(value) && isObject(made[key])) {
      const both = Object.keys(value).filter((name) => has(made.properties, name));
      made.properties = { ...made.properties, ...value };
      for (const name of both) {
        const allOf = [one.properties[name], value[name]];
        Object.defineProperty(made.properties, name, { value: { allOf }, enumerable: true, configurable: true, writable: true });
      }
    } else if (key === "required" && Array.isArray(value) && Array.isArray(made.required)) made.required = [...new Set([...made.required, ...value])];
    else if (/^min|^exclusiveMin/.test(key)) made[key] = Math.max(made[key], value);
    else if (/^max|^exclusiveMax/.test(key)) made[key] = Math.min(made[key], value);
    else if (key === "enum" && Array.isArray(value) && Array.isArray(made.enum)) made.enum = made.enum.filter((each) => value.some((one) => same(one, each)));
    else if (["title", "description", "default", "examples", "$defs", "additionalProperties"].includes(key)) made[key] = value;
    else made.unchecked = true;
  }
  return made;
}

/**
 * `schema` with its references followed and the parts of `allOf` joined: an object. `broken` in it
 * is what it refers to and is not there; `unchecked` that the server will check more than a form can.
 */
export function resolved(schema, root, steps = { left: MOST_STEPS }) {
  if (!isObject(schema)) return schema === false ? { never: true } : {};
  let made = schema;
  for (const key of ["$ref", "$dynamicRef"]) {
    if (!has(made, key)) continue;
    const { [key]: reference, ...rest } = made;
    const found = target(root, reference);
    if (found === undefined || (steps.left -= 1) < 0) return { broken: shown(reference), description: own(rest, "description") };
    const name = typeof reference === "string" ? reference.split("/").pop() : "";
    const into = resolved(found, root, steps);
    made = joined(has(into, "label") ? into : { label: name, ...into }, rest);
  }
  if (Array.isArray(own(made, "allOf"))) {
    const { allOf, ...rest } = made;
    made = rest;
    for (const part of allOf) {
      if ((steps.left -= 1) < 0) return { ...made, unchecked: true };
      made = joined(made, resolved(part, root, steps));
    }
  }
  return UNCHECKED.some((key) => has(made, key)) ? { ...made, unchecked: true } : made;
}

function inferred(schema) {
  if (["properties", "required", "additionalProperties"].some((key) => has(schema, key))) return "object";
  if (has(schema, "items") || has(schema, "prefixItems")) return "array";
  if (["pattern", "format", "minLength", "maxLength"].some((key) => has(schema, key))) return "string";
  if (["minimum", "maximum", "multipleOf"].some((key) => has(schema, key))) return "number";
  return "any";
}

function isNull(schema) {
  return own(schema, "type") === "null" || (has(schema, "const") && schema.const === null);
}

/**
 * What a form shows for `schema`: `kind` is string, integer, number, boolean, array, object, choice
 * (among `variants`), values (among `values`, each {value, label}), any or never. `nullable` says
 * that null is allowed besides; `schema` is what it is made from, resolved.
 */
export function understood(given, root, depth = 0) {
  const schema = resolved(given, root);
  if (depth > DEEPEST) return { kind: "any", schema };
  if (schema.never) return { kind: "never", schema };
  if (schema.broken) return { kind: "any", schema };
  if (has(schema, "const")) return values(schema, [{ value: schema.const }]);
  if (Array.isArray(own(schema, "enum"))) {
    const names = Array.isArray(own(schema, "enumNames")) ? schema.enumNames : [];
    return values(schema, schema.enum.map((value, at) => ({ value, label: names[at] })));
  }
  const among = ["oneOf", "anyOf"].find((key) => Array.isArray(own(schema, key)) && schema[key].length);
  if (among) {
    const { [among]: every, ...rest } = schema;
    const variants = every.slice(0, 100).map((each) => resolved(each, root));
    const left = variants.filter((each) => !isNull(each) && !each.never);
    const nullable = variants.length > left.length && variants.some(isNull);
    if (left.length === 1) return { ...understood(joined(rest, left[0]), root, depth + 1), nullable };
    if (left.length && left.every((each) => has(each, "const"))) {
      return { ...values(rest, left.map((each) => ({ value: each.const, label: each.title ?? each.description }))), nullable };
    }
    const base = has(rest, "properties") || has(rest, "type") ? rest : null;
    return { kind: "choice", schema: rest, nullable, variants: left.map((each) => (base ? joined(base, each) : each)) };
  }
  let type = own(schema, "type");
  let nullable = false;
  if (Array.isArray(type)) {
    nullable = type.includes("null");
    const others = type.filter((each) => each !== "null");
    if (others.length > 1) {
      return { kind: "choice", schema, nullable, variants: others.map((each) => ({ ...schema, type: each })) };
    }
    type = others[0] ?? "null";
  }
  if (type === "null") return values(schema, [{ value: null }]);
  const known = ["string", "integer", "number", "boolean", "array", "object"].includes(type);
  const kind = known ? type : inferred(schema);
  if (kind === "array" && (has(schema, "prefixItems") || own(schema, "items") === false)) return { kind: "any", schema, nullable };
  return { kind, schema, nullable };
}

function values(schema, options) {
  return {
    kind: "values",
    schema,
    nullable: false,
    values: options.map(({ value, label }) => ({ value, label: typeof label === "string" && label ? shown(label, 100) : shown(value, 100) })),
  };
}

/** Whether `value` may be meant by `schema`: by its type, its constants, and what it must have. */
export function fits(value, given, root, depth = 0) {
  if (depth > DEEPEST) return false;
  const { kind, schema, nullable, values, variants } = understood(given, root);
  if (value === null && nullable) return true;
  const type = typeOf(value);
  switch (kind) {
    case "any": return true;
    case "never": return false;
    case "values": return values.some((each) => same(each.value, value));
    case "choice": return variants.some((each) => fits(value, each, root, depth + 1));
    case "number": return type === "number" || type === "integer";
    case "object": {
      if (type !== "object") return false;
      const needed = Array.isArray(schema.required) ? schema.required : [];
      if (!needed.every((name) => has(value, name))) return false;
      return Object.entries(own(schema, "properties") ?? {}).every(([name, each]) => {
        const constant = isObject(each) && has(each, "const");
        return !constant || !has(value, name) || same(value[name], each.const);
      });
    }
    default: return type === kind;
  }
}

/** What one of several variants is called: its title, what it is told by, or its type. */
export function variantName(schema, number) {
  if (typeof schema.title === "string" && schema.title) return shown(schema.title, 80);
  if (typeof schema.label === "string" && schema.label) return shown(schema.label, 80);
  const constant = Object.values(own(schema, "properties") ?? {}).find((each) => isObject(each) && has(each, "const"));
  if (constant) return shown(constant.const, 80);
  if (has(schema, "const")) return shown(schema.const, 80);
  return typeof schema.type === "string" ? schema.type : `form ${number + 1}`;
}

/** What a value must be like, in words; "" where nothing is said. */
export function bounds(schema) {
  const said = [];
  const say = (key, make) => {
    const value = own(schema, key);
    if (["number", "string", "boolean"].includes(typeof value)) said.push(make(value));
  };
  say("minimum", (value) => `at least ${value}`);
  say("exclusiveMinimum", (value) => `above ${value}`);
  say("maximum", (value) => `at most ${value}`);
  say("exclusiveMaximum", (value) => `below ${value}`);
  say("multipleOf", (value) => `a multiple of ${value}`);
  say("minLength", (value) => (value > 1 ? `${value} characters at least` : ""));
  say("maxLength", (value) => `${value.toLocaleString("en")} ${value === 1 ? "character" : "characters"} at most`);
  say("minItems", (value) => `${value} ${value === 1 ? "item" : "items"} at least`);
  say("maxItems", (value) => `${value} ${value === 1 ? "item" : "items"} at most`);
  say("uniqueItems", (value) => (value ? "no item twice" : ""));
  say("pattern", (value) => `like ${shown(value, 120)}`);
  say("format", (value) => (["date", "date-time", "password"].includes(value) ? "" : has(FORMATS, value) ? FORMATS[value][1] : `format ${shown(value, 40)}`));
  return said.filter(Boolean).join(", ");
}
