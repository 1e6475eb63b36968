// The result of a call as elements: texts, tables, images, audio, resources, structured values.
import { announce, element, text } from "./site.js";
import { counted, isObject, parse, same, shown, size, stringify } from "./tool-json.js";

/** How much of a text is shown at first, and at most. */
const FIRST = 4_000;
const MOST = 200_000;
/** How many blocks, rows, columns and members are shown, and of how much JSON a tree is made. */
const MOST_BLOCKS = 100;
const MOST_ROWS = 2_000;
const PAGE = 100;
const FIRST_ROWS = 25;
const MOST_COLUMNS = 24;
const MOST_PARSED = 8 * 2 ** 20;
const MOST_MEDIA = 32 * 2 ** 20;

const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp", "image/svg+xml"];
const AUDIO = /^audio\/[\w.+-]+$/;

let urls = [];

/** Lets go of the bytes of the results shown before. */
export function release() {
  urls.forEach((each) => URL.revokeObjectURL(each));
  urls = [];
}

function objectUrl(bytes, type) {
  const url = URL.createObjectURL(new Blob([bytes], { type }));
  urls.push(url);
  return url;
}

const button = (label, action) => element("button", { type: "button", class: "button small", onclick: action }, label);

/** A link that saves bytes; they have no type that a browser would open as a page. */
function download(bytes, name, label) {
  let link = null;
  const save = () => {
    link ??= element("a", { href: objectUrl(bytes, "application/octet-stream"), download: name });
    link.click();
  };
  return button(label, save);
}

function copy(value) {
  const made = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(value);
      announce("Copied");
    } catch {
      announce("Copying is not allowed here; save it instead");
    }
  });
  return made;
}

const safe = (name) => String(name).replace(/[^\w.-]+/g, "_").slice(0, 60) || "result";

/** A text of any length: folded, copied, saved. */
function textView(value, name) {
  const code = element("code");
  const pre = element("pre", { class: "tools-output", tabindex: "0", "aria-label": name }, code);
  const show = (most) => { code.textContent = text(value.slice(0, most)); };
  show(FIRST);
  const actions = element("p", { class: "row small" }, copy(value));
  if (value.length > FIRST) {
    const rest = value.length > MOST ? `the first ${MOST.toLocaleString("en")} of ${counted(value.length, "character")}` : `all ${counted(value.length, "character")}`;
    let folded = true;
    const more = button(`Show ${rest}`, () => {
      folded = !folded;
      show(folded ? FIRST : MOST);
      more.textContent = folded ? `Show ${rest}` : "Show less";
      more.setAttribute("aria-expanded", String(!folded));
    });
    more.setAttribute("aria-expanded", "false");
    actions.append(more, element("span", { class: "quiet" }, `${counted(value.length, "character")} in all`));
  }
  if (value.length > MOST) actions.append(download(value, `${safe(name)}.txt`, "Save all of it"));
  return element("div", {}, pre, actions);
}

/** A value as a tree of which parts are made when they are opened. */
export function tree(value, name = "", open = false) {
  const label = name === "" ? null : element("bdi", { class: "tools-key" }, shown(name, 120));
  const isList = Array.isArray(value);
  if (!isList && !isObject(value)) {
    const kind = value === null ? "null" : typeof value;
    const said = typeof value === "string" ? shown(JSON.stringify(value), 2_000) : shown(stringify(value), 2_000);
    return element("div", { class: "tools-leaf" }, label, label && ": ", element("bdi", { class: `tools-${kind}` }, said));
  }
  const entries = isList ? value.map((each, at) => [String(at), each]) : Object.entries(value);
  const counts = isList ? counted(entries.length, "item") : counted(entries.length, "member");
  const list = element("ul", { class: "tools-tree" });
  let made = 0;
  const more = () => {
    for (const [key, each] of entries.slice(made, made + PAGE)) list.append(element("li", {}, tree(each, key)));
    made += PAGE;
    if (made < entries.length) {
      const next = button(`Show ${Math.min(PAGE, entries.length - made)} more of ${entries.length.toLocaleString("en")}`, () => { item.remove(); more(); });
      const item = element("li", {}, next);
      list.append(item);
    }
  };
  const details = element("details", { open }, element("summary", {}, label, label && ": ", element("span", { class: "quiet" }, isList ? `[${counts}]` : `{${counts}}`)), list);
  const begin = () => { if (!made && details.open) more(); };
  details.addEventListener("toggle", begin);
  begin();
  return details;
}

const isTable = (value) => Array.isArray(value) && value.length > 0 && value.slice(0, PAGE).every(isObject);

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  if (one === undefined || one === null) return 1;
  if (other === undefined || other === null) return -1;
  return shown(one, 200).localeCompare(shown(other, 200), "en", { numeric: true });
}

/** Objects as rows; the headings sort. */
function table(rows, name) {
  const columns = [...new Set(rows.slice(0, PAGE).filter(isObject).flatMap((each) => Object.keys(each)))];
  const kept = columns.slice(0, MOST_COLUMNS);
  const cell = (row, column) => (isObject(row) && Object.hasOwn(row, column) ? row[column] : undefined);
  const numbers = new Set(kept.filter((column) => rows.slice(0, PAGE).every((row) => ["number", "undefined"].includes(typeof cell(row, column)))));
  let ordered = rows.slice(0, MOST_ROWS);
  let visible = FIRST_ROWS;
  const body = element("tbody");
  const more = element("p", { class: "row small" });
  const draw = () => {
    body.replaceChildren(...ordered.slice(0, visible).map((row) => element("tr", {}, kept.map((column) => {
      const value = cell(row, column);
      return element("td", { class: numbers.has(column) ? "number" : null }, value === undefined ? "" : element("bdi", {}, shown(value, 300)));
    }))));
    more.replaceChildren(...(visible < ordered.length ? [button(`Show ${Math.min(PAGE, ordered.length - visible)} more`, () => { visible += PAGE; draw(); })] : []));
  };
  const headings = kept.map((column) => {
    const heading = element("th", { scope: "col", class: numbers.has(column) ? "number" : null });
    const sort = button(shown(column, 80), () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      ordered = rows.slice(0, MOST_ROWS).sort((one, other) => (down ? -1 : 1) * compare(cell(one, column), cell(other, column)));
      draw();
      announce(`Sorted by ${shown(column, 80)}, ${down ? "descending" : "ascending"}`);
    });
    sort.className = "tools-sort";
    heading.append(sort);
    return heading;
  });
  draw();
  const left = [columns.length > kept.length && `the first ${kept.length} of ${columns.length} columns`, rows.length > MOST_ROWS && `the first ${counted(MOST_ROWS, "row")}`].filter(Boolean);
  const caption = `${name ? `${shown(name, 80)}: ` : ""}${counted(rows.length, "row")}${left.length ? `; ${left.join(", ")}` : ""}`;
  return element("div", {}, element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    element("table", { class: "table tools-table" }, element("caption", {}, caption), element("thead", {}, element("tr", {}, headings)), body)), more);
}

/** Something structured: its lists of objects as tables, and all of it as a tree. */
function structured(value) {
  const found = [];
  if (isTable(value)) found.push(table(value, ""));
  else if (isObject(value)) {
    for (const [name, each] of Object.entries(value).slice(0, PAGE)) if (isTable(each)) found.push(table(each, name));
  }
  return element("div", {}, found, tree(value, found.length ? "All of it" : "", !found.length));
}

function bytesOf(base64) {
  if (typeof base64 !== "string" || base64.length > MOST_MEDIA * 4 / 3) return null;
  try {
    return Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
  } catch {
    return null;
  }
}

/** An image, audio, or whatever else has bytes: shown as what it may be, saved as anything. */
function media(data, type, name) {
  const bytes = bytesOf(data);
  if (bytes === null) return element("p", { class: "notice warn" }, `${name}: ${typeof data === "string" && data.length > MOST_MEDIA ? "too large to show" : "not in base64, as MCP wants it"}.`);
  const said = `${name}, ${shown(type ?? "of no type", 60)}, ${size(bytes.length)}`;
  const save = download(bytes, safe(name), "Save");
  const kind = String(type ?? "").split(";")[0].trim().toLowerCase();
  const fail = (event) => event.target.replaceWith(element("p", { class: "notice warn" }, "This cannot be shown: it is not what its type says."));
  let view = null;
  if (IMAGES.includes(kind)) view = element("img", { src: objectUrl(bytes, kind), alt: said, class: "tools-image", onerror: fail });
  else if (AUDIO.test(kind)) view = element("audio", { src: objectUrl(bytes, kind), controls: true, "aria-label": said, onerror: fail });
  return element("figure", { class: "tools-media" }, view, element("figcaption", { class: "row small" }, element("bdi", {}, said), save));
}

/** The address of something elsewhere: a link only for the web, and never fetched from here. */
function address(uri) {
  const given = String(uri ?? "");
  if (!/^https?:\/\//i.test(given) || !URL.canParse(given)) return element("code", {}, element("bdi", {}, shown(given, 500)));
  return element("a", { href: given, target: "_blank", rel: "noopener noreferrer" }, element("bdi", {}, shown(given, 500)));
}

function resourceLink(block) {
  const facts = [block.mimeType && shown(block.mimeType, 60), typeof block.size === "number" && size(block.size)].filter(Boolean).join(", ");
  return element("div", { class: "tools-link" },
    element("strong", {}, element("bdi", {}, shown(block.title ?? block.name ?? "A resource", 200))),
    element("p", {}, address(block.uri)),
    block.description && element("p", {}, element("bdi", {}, shown(block.description, 1_000))),
    facts && element("p", { class: "quiet small" }, facts));
}

function resource({ resource: given }, number) {
  if (!isObject(given)) return tree(given, "resource", true);
  const name = `Resource ${number}`;
  const body = typeof given.text === "string" ? textView(given.text, name) : media(given.blob, given.mimeType, name);
  return element("div", { class: "tools-link" }, element("p", {}, address(given.uri), given.mimeType && element("span", { class: "quiet small" }, ` ${shown(given.mimeType, 60)}`)), body);
}

/** A text, and what it says as JSON where it is that. */
function textBlock(block, number) {
  const value = typeof block.text === "string" ? block.text : stringify(block.text) ?? "";
  const view = textView(value, `Text ${number}`);
  if (!/^\s*[[{]/.test(value) || value.length > MOST_PARSED) return view;
  let parsed;
  try {
    parsed = parse(value);
  } catch {
    return view;
  }
  return element("div", {}, structured(parsed), element("details", {}, element("summary", {}, "As it was written"), view));
}

const NAMES = { text: "Text", image: "Image", audio: "Audio", resource_link: "Link", resource: "Resource" };

function content(block, number) {
  if (!isObject(block)) return tree(block, "", true);
  switch (block.type) {
    case "text": return textBlock(block, number);
    case "image": return media(block.data, block.mimeType, `Image ${number}`);
    case "audio": return media(block.data, block.mimeType, `Audio ${number}`);
    case "resource_link": return resourceLink(block);
    case "resource": return resource(block, number);
    default: return tree(block, "", true);
  }
}

function repeats(block, value) {
  if (!isObject(block) || block.type !== "text" || typeof block.text !== "string" || block.text.length > MOST_PARSED) return false;
  if (block.text === value) return true;
  try {
    return same(parse(block.text), value);
  } catch {
    return false;
  }
}

/** Those of `blocks` that are no copy of `value`: whole, or as SDKs write a list, an item each. */
function unrepeated(blocks, value) {
  if (value === undefined) return blocks;
  const inner = isObject(value) && Object.keys(value).join() === "result" ? value.result : undefined;
  const items = Array.isArray(inner) && inner.length === blocks.length ? inner : null;
  const copied = (block, at) => repeats(block, value) || (items ? repeats(block, items[at]) : inner !== undefined && repeats(block, inner));
  return blocks.filter((block, at) => !copied(block, at));
}

/** The texts of a result, as a model reads them. */
export function readable(result) {
  const texts = (Array.isArray(result?.content) ? result.content : []).filter((each) => each?.type === "text").map((each) => String(each.text));
  return texts.length ? texts.join("\n") : result?.structuredContent === undefined ? "" : stringify(result.structuredContent);
}

/** Elements for `result`; `raw` is the message that it came in. */
export function rendered(result, raw) {
  const blocks = Array.isArray(result?.content) ? result.content : [];
  const parts = [];
  if (result?.structuredContent !== undefined) {
    parts.push(element("section", { class: "tools-block" }, element("h3", {}, "Structured"), structured(result.structuredContent)));
  }
  const left = unrepeated(blocks, result?.structuredContent);
  const numbers = new Map();
  for (const block of left.slice(0, MOST_BLOCKS)) {
    const name = Object.hasOwn(NAMES, block?.type ?? "") ? NAMES[block.type] : "Something else";
    const number = (numbers.get(name) ?? 0) + 1;
    numbers.set(name, number);
    const audience = Array.isArray(block?.annotations?.audience) ? ` (for the ${block.annotations.audience.map((each) => shown(each, 20)).join(" and the ")})` : "";
    parts.push(element("section", { class: "tools-block" }, element("h3", {}, `${name}${left.length > 1 ? ` ${number}` : ""}${audience}`), content(block, number)));
  }
  if (left.length > MOST_BLOCKS) parts.push(element("p", { class: "notice" }, `${(left.length - MOST_BLOCKS).toLocaleString("en")} more blocks are not shown; save the raw answer to have them.`));
  if (!parts.length) parts.push(element("p", { class: "empty" }, "The result is empty."));
  const details = element("details", { class: "tools-block" }, element("summary", {}, `Raw, ${counted(raw.length, "character")}`));
  details.addEventListener("toggle", () => { details.append(textView(raw, "raw")); details.append(download(raw, "answer.json", "Save it")); }, { once: true });
  return [...parts, details];
}
