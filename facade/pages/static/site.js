// What all pages have in common: asking the facade, building elements, times, copying, themes.

/** The facade's root, whatever prefix a proxy puts before it. */
export const base = new URL(document.documentElement.dataset.root, location.href);

/** What the facade refused, as its problem document says it. */
export class Problem extends Error {
  constructor(status, title, detail, facts = {}) {
    super(detail || title);
    this.name = "Problem";
    this.status = status;
    this.title = title;
    this.detail = detail || title;
    this.facts = facts;
  }
}

/** The token that changes need where a cookie says who asks. */
export function csrfToken() {
  return document.querySelector('meta[name="csrf-token"]')?.content ?? "";
}

/**
 * Asks the facade for `path` below its root. `body` is sent as JSON. The answer is returned as it
 * is; one with an error is thrown as a `Problem`, and that it cannot be reached as one of status 0.
 */
export async function request(path, { method = "GET", body, headers = {}, signal } = {}) {
  const given = { Accept: "application/json", ...headers };
  const token = csrfToken();
  if (token && method !== "GET") given["X-CSRF-Token"] = token;
  if (body !== undefined && typeof body !== "string") {
    body = JSON.stringify(body);
    given["Content-Type"] ??= "application/json";
  }
  let response;
  try {
    response = await fetch(new URL(path, base), { method, headers: given, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "Not reachable", "The facade cannot be reached now.");
  }
  if (response.ok) return response;
  let told = {};
  try {
    told = await response.json();
  } catch {
    // Not a problem document: the status has to do.
  }
  throw new Problem(response.status, told.title ?? response.statusText, told.detail ?? told.error, told);
}

/** As `request`, and the JSON of the answer. */
export async function api(path, options) {
  const response = await request(path, options);
  return response.status === 204 ? null : response.json();
}

/** Says `sentence` to those who do not see the page. */
export function announce(sentence) {
  const live = document.getElementById("live");
  if (live.textContent === sentence) live.textContent = "";
  requestAnimationFrame(() => { live.textContent = sentence; });
}

const HIDDEN = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5" +
    "\\u180b-\\u180f\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\uffa0\\ufff0-\\ufffb" +
    "\\ud800-\\udfff\\ue000-\\uf8ff\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}\\u{f0000}-\\u{10ffff}]" +
    "|(?<=[\\u0000-\\u007f]|^)[\\u200c\\u200d]|[\\u200c\\u200d](?=[\\u0000-\\u007f]|$)",
  "gu",
);

/** `value` as text in which nothing is hidden: what cannot be seen is written as \u{…}. */
export function text(value) {
  return String(value ?? "").replace(
    HIDDEN,
    (found) => `\\u{${found.codePointAt(0).toString(16).toUpperCase()}}`,
  );
}

/** An element of HTML; `null` and `false` among attributes and children are left out. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same of SVG. */
export function drawing(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false));
  return made;
}

const SHAPES = {
  healthy: ["circle", { cx: 6, cy: 6, r: 5 }, "M3.6 6.2l1.7 1.7 3.2-3.6"],
  degraded: ["path", { d: "M6 .8 11.6 11H.4z" }, "M6 4.4v3M6 9v.4"],
  down: ["rect", { x: 1, y: 1, width: 10, height: 10, rx: 2 }, "M3.8 3.8l4.4 4.4M8.2 3.8 3.8 8.2"],
  draining: ["path", { d: "M6 1a5 5 0 1 0 5 5h-2a3 3 0 1 1-3-3z" }, ""],
};
SHAPES.operational = SHAPES.healthy;

/** A status as a shape and a word, as `status_mark` of the templates. */
export function statusMark(status, word = status) {
  const [shape, attributes, stroke] = SHAPES[status] ?? ["circle", { cx: 6, cy: 6, r: 4.3, class: "stroke" }, ""];
  return element(
    "span",
    { class: `mark mark-${SHAPES[status] ? status : "unknown"}` },
    drawing(
      "svg",
      { width: 12, height: 12, viewBox: "0 0 12 12", "aria-hidden": "true", focusable: "false" },
      drawing(shape, attributes),
      stroke && drawing("path", { class: "stroke", d: stroke }),
    ),
    text(word),
  );
}

const STEPS = [[60, 1, "second"], [3600, 60, "minute"], [86400, 3600, "hour"], [2592000, 86400, "day"], [31536000, 2592000, "month"], [Infinity, 31536000, "year"]];
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });

/** "3 min. ago" for a Date or an RFC 3339 string. */
export function ago(moment, now = Date.now()) {
  const seconds = (new Date(moment) - now) / 1000;
  if (Number.isNaN(seconds)) return String(moment);
  if (Math.abs(seconds) < 5) return "now";
  const [, unit, name] = STEPS.find(([below]) => Math.abs(seconds) < below);
  // What is to come is never said to be nearer than it is: 7 h 59 min is 8 h.
  return RELATIVE.format(seconds > 0 ? Math.round(seconds / unit) : Math.trunc(seconds / unit), name);
}

/** A `time` element that keeps itself current. */
export function when(moment) {
  const made = element("time", { datetime: moment }, ago(moment));
  made.title = new Date(moment).toLocaleString();
  return made;
}

function refreshTimes() {
  const now = Date.now();
  for (const each of document.querySelectorAll("time[datetime]")) {
    if (each.dataset.exact !== undefined) continue;
    const told = ago(each.dateTime, now);
    if (each.textContent !== told) each.textContent = told;
    each.title ||= new Date(each.dateTime).toLocaleString();
  }
}

/** Shows the buttons below `root` that copy what stands beside them. */
export function offerCopies(root = document) {
  for (const button of root.querySelectorAll("[data-copy][hidden]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const source = button.parentElement.querySelector("code, pre, input");
      const copied = source.value ?? source.textContent;
      try {
        await navigator.clipboard.writeText(copied);
      } catch {
        // Without TLS there is no clipboard: what is selected can be copied by hand.
        const range = document.createRange();
        range.selectNodeContents(source);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        if (!document.execCommand("copy")) return announce("Selected; copy it with the keyboard");
      }
      button.textContent = "Copied";
      announce("Copied");
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
}

let saidAt = new Date().toISOString();

/** Says at the head of the page why it is not current: `away` or `signed out`; `null`: it is. */
export function sayCurrent(why) {
  const place = document.getElementById("not-current");
  if (why === null) saidAt = new Date().toISOString();
  if ((place?.dataset.why ?? null) === why) return;
  place?.remove();
  if (why === null) { announce("The facade answers again"); return; }
  const said = why === "away"
    ? ["The facade cannot be reached. This is what it said ", when(saidAt), "."]
    : ["You are not signed in any more. ", element("a", { href: location.pathname + location.search }, "Sign in again")];
  document.getElementById("main").prepend(element("p", { id: "not-current", class: "notice bad", role: "alert", "data-why": why }, said));
}

/**
 * Fetches this page anew and puts its parts with `data-fresh="NAME"` in the place of those that are
 * shown; true if the facade answered with it, else the page says why it is not current. What has
 * the focus keeps it by its id.
 */
export async function refreshPage() {
  let response;
  try {
    response = await fetch(location.href, { headers: { Accept: "text/html" } });
  } catch {
    sayCurrent("away");
    return false;
  }
  sayCurrent(response.status >= 500 ? "away" : response.status === 401 || response.redirected ? "signed out" : null);
  if (!response.ok || response.redirected) return false;
  const made = new DOMParser().parseFromString(await response.text(), "text/html");
  const focused = document.activeElement?.id;
  for (const old of document.querySelectorAll("[data-fresh]")) {
    const fresh = made.querySelector(`[data-fresh="${CSS.escape(old.dataset.fresh)}"]`);
    if (fresh && !fresh.isEqualNode(old)) old.replaceWith(document.importNode(fresh, true));
  }
  if (focused) document.getElementById(focused)?.focus();
  offerCopies();
  refreshTimes();
  return true;
}

function chooseTheme() {
  const select = document.getElementById("theme");
  select.disabled = false;
  select.addEventListener("change", () => {
    const chosen = select.value;
    if (chosen) document.documentElement.dataset.theme = chosen;
    else delete document.documentElement.dataset.theme;
    document.cookie = `mcp_discovery_theme=${chosen}; path=${base.pathname}; max-age=31536000; samesite=lax`;
  });
}

chooseTheme();
// On a phone the pages are more than the line holds. Only there, and not before a frame is due: this
// lays out the page, which a long list feels.
if (matchMedia("(max-width: 40rem)").matches) {
  requestAnimationFrame(() => document.querySelector("nav.site [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" }));
}
offerCopies();
refreshTimes();
setInterval(refreshTimes, 5000);
