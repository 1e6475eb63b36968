// What edits a value of any JSON Schema: fields for what they can say, and JSON for the rest.
import { announce, element } from "./site.js";
import { isObject, shown, stringify } from "./tool-json.js";
import { fits, understood, variantName } from "./tool-schema.js";
import { booleanField, caption, choiceField, hints, jsonField, numberField, stringField } from "./tool-fields.js";

/** How deep a form goes, and how many fields it makes by itself: what is beyond is JSON. */
const DEEPEST = 6;
export const MOST_FIELDS = 400;
/** Of an object with more members than these the optional ones are added by name. */
const MOST_MEMBERS = 40;
/** How many items of a list have fields. */
const MOST_ITEMS = 100;

/** What takes more room than a line comes after what does not. */
const NESTED = ["object", "array", "choice", "any"];

const has = Object.hasOwn;
let grouped = 0;

/**
 * What edits one value: `node` to show, `get()` its value (`undefined`: none), `set(value)` (false:
 * it cannot show that one), `check()` what is wrong, as {control, message}, `rename(name)`.
 */
export function editor(given, context) {
  const known = understood(given, context.root);
  context.form.left -= 1;
  const made = built(known, context);
  const editing = flexible(made, known, context);
  if (context.required && known.schema.default !== undefined) editing.set(known.schema.default);
  return editing;
}

function built(known, context) {
  if (context.form.left < 0) return jsonField(context, known, "the form is long enough");
  switch (known.kind) {
    case "string": return stringField(context, known);
    case "integer":
    case "number": return numberField(context, known);
    case "boolean": return booleanField(context, known);
    case "values": return choiceField(context, known);
    case "never": return jsonField(context, known, "the schema allows no value here");
    case "any": return jsonField(context, known);
    default:
  }
  if (context.depth >= DEEPEST) return jsonField(context, known, "the form is deep enough");
  if (known.kind === "array") return listEditor(known, context);
  if (known.kind === "choice") return variantEditor(known, context);
  const needed = Array.isArray(known.schema.required) ? known.schema.required.length : 0;
  if (needed > context.form.left) return jsonField(context, known, "it has very many members");
  return context.required || context.bare ? objectEditor(known, context) : optionalEditor(known, context);
}

/** `made`, or JSON for as long as it holds what `made` cannot show. */
function flexible(made, known, context) {
  const node = element("div", { class: "tools-part" }, made.node);
  let inner = made;
  return {
    node,
    get: () => inner.get(),
    set(value) {
      inner = made;
      if (made.set(value) === false) {
        made.set(undefined);
        inner = jsonField(context, known, "the form cannot show this value");
        inner.set(value);
      }
      node.replaceChildren(inner.node);
      return true;
    },
    check: () => inner.check(),
    rename: (name) => inner.rename(name),
  };
}

const within = (context, name, required) => ({ ...context, name, required, bare: false, depth: context.depth + 1 });

/** Fields below one caption. */
function group(context, schema, ...children) {
  const title = element("span", { class: "label", id: `group-${(grouped += 1)}` });
  const rename = (name) => title.replaceChildren(...caption({ ...context, name }, schema));
  rename(context.name);
  const hint = hints(schema, `${title.id}-hint`);
  const attributes = { class: "tools-group", role: "group", "aria-labelledby": title.id, "aria-describedby": hint?.id };
  return { node: element("div", attributes, title, hint, children), rename };
}

const button = (label, action, name = null) =>
  element("button", { type: "button", class: "button small", onclick: action, "aria-label": name }, label);

const checkAll = async (editors) => (await Promise.all([...editors].map((each) => each.check()))).flat();

function objectEditor({ schema }, context) {
  const named = Array.isArray(schema.required) ? schema.required : [];
  const required = new Set(named);
  // Documents are kept in canonical JSON, so the order of members says nothing; that of `required` may.
  const given = Object.entries(isObject(schema.properties) ? schema.properties : {});
  const many = given.length > MOST_MEMBERS;
  const rank = ([name, each]) => (required.has(name) ? 0 : 2) + (!many && NESTED.includes(understood(each, context.root).kind) ? 1 : 0);
  const order = new Map(named.map((name, at) => [name, at]));
  const ranked = given.map((each) => [rank(each), each]).sort(([one, [a]], [other, [b]]) => one - other || (order.get(a) ?? 0) - (order.get(b) ?? 0));
  const properties = ranked.map(([, each]) => each);
  const byName = new Map(properties);
  const members = new Map();
  const rest = new Map(); // row → {name, value} of members that the schema does not name
  const list = element("div", { class: "tools-members" });
  const others = element("div", { class: "tools-members" });
  const place = new Map(properties.map(([name], at) => [name, at]));

  function member(name) {
    if (!members.has(name)) {
      const made = editor(byName.get(name), within(context, name, required.has(name)));
      made.node.dataset.at = place.get(name);
      const after = [...list.children].find((each) => Number(each.dataset.at) > place.get(name));
      list.insertBefore(made.node, after ?? null);
      members.set(name, made);
    }
    return members.get(name);
  }

  const additional = schema.additionalProperties;
  const open = isObject(additional) || additional === true || (additional !== false && !properties.length && context.depth > 0);
  function row(name = "", value) {
    const id = `member-${(grouped += 1)}`;
    const naming = element("input", { id, type: "text", autocomplete: "off", value: name });
    const made = editor(isObject(additional) ? additional : true, within(context, "value", true));
    if (value !== undefined) made.set(value);
    const node = element("div", { class: "tools-item" },
      element("div", { class: "field" }, element("label", { for: id }, "Name"), naming), made.node,
      button("Remove", () => { rest.delete(node); node.remove(); context.form.changed(); }, "Remove this member"));
    naming.addEventListener("input", () => context.form.changed());
    rest.set(node, { naming, made });
    others.append(node);
    return naming;
  }

  for (const [name] of properties) if (required.has(name) || !many) member(name);
  const parts = [list, others];
  if (many) parts.push(picker(properties.map(([name]) => name), members, member));
  if (open) parts.push(element("p", {}, button("Add a member", () => row().focus())));
  const { node, rename } = context.bare ? { node: element("div", { class: "tools-members" }, parts), rename() {} } : group(context, schema, parts);
  return {
    node,
    rename,
    get() {
      const ordered = [...members].sort(([one], [other]) => place.get(one) - place.get(other));
      const values = ordered.map(([name, each]) => [name, each.get()]);
      for (const { naming, made } of rest.values()) values.push([naming.value, made.get()]);
      return Object.fromEntries(values.filter(([, value]) => value !== undefined));
    },
    set(value) {
      if (value === undefined) value = {};
      if (!isObject(value)) return false;
      const unknown = Object.keys(value).filter((name) => !byName.has(name));
      if (unknown.length > MOST_ITEMS) return false;
      for (const [name, each] of members) if (!has(value, name)) each.set(undefined);
      rest.clear();
      others.replaceChildren();
      for (const [name, each] of Object.entries(value)) {
        if (byName.has(name)) member(name).set(each);
        else row(name, each);
      }
      return true;
    },
    check: () => checkAll([...members.values(), ...[...rest.values()].map((each) => each.made)]),
  };
}

/** Adds one of many optional members by its name. */
function picker(names, members, member) {
  const id = `pick-${(grouped += 1)}`;
  const list = element("datalist", { id: `${id}-list` });
  const input = element("input", { id, type: "text", list: list.id, autocomplete: "off", placeholder: `${names.length.toLocaleString("en")} members` });
  const offer = () => {
    const begun = input.value.toLowerCase();
    const found = [];
    for (const name of names) {
      if (found.length >= 200) break;
      if (!members.has(name) && name.toLowerCase().includes(begun)) found.push(element("option", { value: name }));
    }
    list.replaceChildren(...found);
  };
  const error = element("p", { class: "error", id: `${id}-error`, hidden: true });
  input.setAttribute("aria-describedby", error.id);
  input.addEventListener("input", offer);
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); add(); } });
  function add() {
    const name = names.find((each) => each === input.value) ?? names.find((each) => each.trim() === input.value.trim());
    error.hidden = name !== undefined;
    if (name === undefined) { error.textContent = "There is no member of this name."; return; }
    input.value = "";
    offer();
    member(name).node.querySelector("input, textarea, select, button")?.focus();
  }
  offer();
  return element("div", { class: "field" }, element("label", { for: id }, "Add an optional member"), element("div", { class: "row" }, input, list, button("Add", add)), error);
}

/** An object that is there once somebody adds it: so a schema that contains itself ends. */
function optionalEditor(known, context) {
  let inner = null;
  const holder = element("div", { class: "tools-part" });
  const add = button("Add", () => { show(); inner.node.querySelector("input, textarea, select, button")?.focus(); context.form.changed(); }, `Add ${shown(context.name, 60)}`);
  const remove = button("Remove", () => { hide(); add.focus(); context.form.changed(); }, `Remove ${shown(context.name, 60)}`);
  const { node, rename } = group(context, known.schema, holder, element("p", {}, add, remove));
  function show() {
    if (inner) return;
    inner = objectEditor(known, { ...context, bare: true });
    holder.replaceChildren(inner.node);
    add.hidden = true;
    remove.hidden = false;
  }
  let nothing;
  function hide() {
    inner = null;
    nothing = undefined;
    holder.replaceChildren();
    add.hidden = false;
    remove.hidden = true;
  }
  hide();
  return {
    node,
    rename,
    get: () => (inner ? inner.get() : nothing),
    set(value) {
      if (value === undefined || (value === null && known.nullable)) {
        hide();
        nothing = value;
        return true;
      }
      if (!isObject(value)) return false;
      show();
      return inner.set(value);
    },
    check: async () => (inner ? inner.check() : []),
  };
}

function listEditor({ schema, nullable }, context) {
  const items = [];
  const list = element("ol", { class: "tools-items" });
  let nothing = context.required ? [] : undefined;
  const error = element("p", { class: "error", hidden: true });
  const add = button("Add an item", () => { push().node.querySelector("input, textarea, select, button")?.focus(); context.form.changed(); }, `Add an item to ${shown(context.name, 60)}`);
  const { node, rename } = group(context, schema, list, error, element("p", {}, add));
  const number = () => items.forEach(({ made }, at) => made.rename(`${context.name} ${at + 1}`));
  function push() {
    const made = editor(schema.items ?? true, within(context, `${context.name} ${items.length + 1}`, true));
    const item = { made, node: null };
    const move = (by) => {
      const at = items.indexOf(item);
      const to = at + by;
      if (to < 0 || to >= items.length) return;
      items.splice(at, 1);
      items.splice(to, 0, item);
      list.replaceChildren(...items.map((each) => each.node));
      number();
      context.form.changed();
      announce(`Moved to place ${to + 1}`);
    };
    item.node = element("li", { class: "tools-item" }, made.node, element("div", { class: "row" },
      button("↑", (event) => { move(-1); event.target.focus(); }, "Move up"),
      button("↓", (event) => { move(1); event.target.focus(); }, "Move down"),
      button("Remove", () => { items.splice(items.indexOf(item), 1); item.node.remove(); number(); add.focus(); context.form.changed(); }, "Remove this item")));
    items.push(item);
    list.append(item.node);
    return item;
  }
  const fault = () => {
    if (items.length < schema.minItems) return `Add ${schema.minItems} items at least.`;
    if (items.length > schema.maxItems) return `Keep ${schema.maxItems} items at most.`;
    const written = items.map(({ made }) => stringify(made.get()));
    return schema.uniqueItems === true && new Set(written).size < written.length ? "Two items are the same." : "";
  };
  return {
    node,
    rename,
    get: () => (items.length ? items.map(({ made }) => made.get()).filter((each) => each !== undefined) : nothing),
    set(value) {
      if (value !== undefined && !Array.isArray(value) && !(value === null && nullable)) return false;
      if (value?.length > MOST_ITEMS) return false;
      items.splice(0);
      list.replaceChildren();
      nothing = Array.isArray(value) || value === null ? value : context.required ? [] : undefined;
      for (const each of value ?? []) push().made.set(each);
      return true;
    },
    async check() {
      const given = items.length || context.required ? fault() : "";
      error.textContent = given;
      error.hidden = !given;
      const found = await checkAll(items.map(({ made }) => made));
      return given ? [{ control: add, message: `${shown(context.name, 60)}: ${given}` }, ...found] : found;
    },
  };
}

function variantEditor({ schema, variants, nullable }, context) {
  const id = `variant-${(grouped += 1)}`;
  const select = element("select", { id });
  const nothing = context.required ? "Choose …" : "Not given";
  select.append(element("option", { value: "" }, nothing));
  select.append(...variants.map((each, at) => element("option", { value: String(at) }, variantName(each, at))));
  if (nullable) select.append(element("option", { value: "null" }, "null"));
  const holder = element("div", { class: "tools-part" });
  const error = element("p", { class: "error", id: `${id}-error`, hidden: true });
  select.setAttribute("aria-describedby", error.id);
  const label = element("label", { for: id, class: "unseen" }, `Form of ${shown(context.name, 60)}`);
  const { node, rename } = group(context, schema, element("div", { class: "field" }, label, select, error), holder);
  let inner = null;
  function choose(at) {
    select.value = at;
    error.hidden = true;
    select.removeAttribute("aria-invalid");
    inner = at === "" || at === "null" ? null : editor(variants[Number(at)], { ...within(context, variantName(variants[Number(at)], Number(at)), true), bare: true });
    holder.replaceChildren(...(inner ? [inner.node] : []));
  }
  select.addEventListener("change", () => {
    const before = inner?.get();
    choose(select.value);
    if (inner && before !== undefined && fits(before, variants[Number(select.value)], context.root)) inner.set(before);
    context.form.changed();
  });
  return {
    node,
    rename,
    get: () => (inner ? inner.get() : select.value === "null" ? null : undefined),
    set(value) {
      if (value === undefined) { choose(""); return true; }
      if (value === null && nullable) { choose("null"); return true; }
      const at = variants.findIndex((each) => fits(value, each, context.root));
      if (at < 0) return false;
      choose(String(at));
      return inner.set(value);
    },
    async check() {
      if (inner) return inner.check();
      const missing = context.required && select.value === "";
      error.textContent = missing ? "Choose one of these." : "";
      error.hidden = !missing;
      if (!missing) return [];
      select.setAttribute("aria-invalid", "true");
      return [{ control: select, message: `${shown(context.name, 60)}: Choose one of these.` }];
    },
  };
}
