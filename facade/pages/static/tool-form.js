// The arguments of a tool: as a form made from its schema, or as JSON, and back.
import { announce, element } from "./site.js";
import { editor, MOST_FIELDS } from "./tool-editors.js";
import { NO_JSON } from "./tool-fields.js";
import { isObject, parse, stringify } from "./tool-json.js";
import { understood } from "./tool-schema.js";

let numbered = 0;

/** The whole form, with a switch to JSON and back that keeps what was given. */
export class SchemaForm {
  /** `changed` is called whenever somebody changes something. */
  constructor(schema, { name = "arguments", changed = () => {} } = {}) {
    this.changed = changed;
    const form = { left: MOST_FIELDS, broken: new Set(), changed };
    this.form = form;
    const known = understood(schema, schema);
    this.hasFields = known.kind === "object";
    const context = { form, root: schema, name, required: true, bare: true, depth: 0 };
    this.fields = this.hasFields ? editor(schema, context) : null;
    this.json = element("textarea", { id: `json-${(numbered += 1)}`, rows: 12, class: "tools-json", spellcheck: "false" });
    this.error = element("p", { class: "error", id: `${this.json.id}-error`, hidden: true });
    this.json.setAttribute("aria-describedby", this.error.id);
    this.json.addEventListener("input", () => { this.tell(""); changed(); });
    const whole = element("div", { class: "field" }, element("label", { for: this.json.id }, "Arguments as JSON"), this.json, this.error);
    this.holder = element("div");
    this.whole = whole;
    this.tabs = ["Form", "JSON"].map((label) => element("button", { type: "button", class: "button small", "aria-pressed": "false", onclick: () => this.show(label === "JSON") }, label));
    this.asJson = !this.hasFields;
    if (this.asJson) this.json.value = "{}";
    const empty = this.hasFields && !Object.keys(isObject(known.schema.properties) ? known.schema.properties : {}).length;
    this.node = element("div", { class: "tools-form" },
      this.hasFields && element("div", { class: "row", role: "group", "aria-label": "How the arguments are given" }, this.tabs),
      empty && element("p", { class: "quiet" }, "It needs no arguments."), this.holder);
    this.place();
  }

  place() {
    this.holder.replaceChildren(this.asJson ? this.whole : this.fields.node);
    this.tabs.forEach((each, at) => each.setAttribute("aria-pressed", String((at === 1) === this.asJson)));
  }

  /** Shows JSON or the fields; what stands in one is put into the other. */
  show(asJson) {
    if (asJson === this.asJson) return;
    if (asJson) {
      const broken = [...this.form.broken].find((each) => each.isConnected);
      if (broken) { broken.focus(); announce(NO_JSON); return; }
      this.json.value = stringify(this.fields.get(), 2);
      this.json.rows = Math.min(30, Math.max(8, this.json.value.split("\n").length + 1));
    } else {
      const value = this.parsed();
      if (value === undefined) { this.json.focus(); return; }
      this.fields.set(value);
    }
    this.tell("");
    this.asJson = asJson;
    this.place();
  }

  tell(message) {
    this.error.textContent = message;
    this.error.hidden = !message;
    if (message) this.json.setAttribute("aria-invalid", "true");
    else this.json.removeAttribute("aria-invalid");
  }

  parsed() {
    let value;
    try {
      value = parse(this.json.value.trim() || "{}");
    } catch {
      this.tell(NO_JSON);
      return undefined;
    }
    if (isObject(value)) return value;
    this.tell("Arguments are an object: write { and } around them.");
    return undefined;
  }

  /** What is given now, right or wrong; `undefined` where it cannot be read. */
  get value() {
    return this.asJson ? this.parsed() : this.fields.get();
  }

  set value(value) {
    if (this.hasFields) this.fields.set(value);
    this.json.value = stringify(value, 2);
  }

  /** The arguments, if nothing is wrong with them; else `undefined`, and the first fault has the focus. */
  async checked() {
    if (this.asJson) {
      const value = this.parsed();
      if (value === undefined) { this.json.focus(); announce(this.error.textContent); }
      return value;
    }
    const faults = await this.fields.check();
    if (!faults.length) return this.fields.get();
    faults[0].control.focus();
    announce(`${faults.length === 1 ? "One thing is" : `${faults.length} things are`} not right. ${faults[0].message}`);
    return undefined;
  }
}
