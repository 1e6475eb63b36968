// The page of all servers: loads the caller's list from the API, and keeps it current.
import { announce, element, refreshPage, request, statusMark, text, when } from "./site.js";
import { follow, stateShownIn } from "./events.js";
import { ServerList } from "./server_list.js";
import { VirtualRows } from "./rows.js";

const PAGE = 1000; // entries at once
const FOUND = 1000; // of a search the best
const FIELDS = ["id", "name", "title", "description", "status", "reason", "since", "version", "transport", "zone"];
const SETTLED = 250; // ms between two looks at the order
const SEARCHED = 2000; // ms between two searches for the same
const SPOKEN = 10_000; // ms between two announcements

const table = document.getElementById("servers-table");
const form = document.getElementById("servers-form");
const state = stateShownIn(document.getElementById("servers-live"));
const streamed = new Set(table.dataset.streamed.split(" "));
const filters = new Set(table.dataset.filters.split(" "));

let list = new ServerList();
let ending = new AbortController();
let searching = false;
let settling = 0;
let began = false;
const expanded = new Set();

const rows = new VirtualRows(table, { fill, open: (row) => location.assign(linkTo(row)), toggle });

/* The URL is the state */

function wantedNow() {
  const given = new URLSearchParams(location.search);
  const shared = new URLSearchParams();
  for (const [name, value] of given) if (filters.has(name) && name !== "status" && value.trim()) shared.append(name, value);
  const stream = new URLSearchParams([...shared].filter(([name]) => streamed.has(name)));
  const statuses = given.getAll("status").flatMap((each) => each.split(",")).filter((each) => each && each !== "all");
  const ranked = shared.has("q") || shared.has("min_uptime");
  const sort = given.get("sort") || (shared.has("q") ? "relevance" : "name");
  return { shared, stream, statuses: new Set(statuses), ranked, sort };
}

/** Shows what `url` is about, without leaving the page. */
async function go(url, { push = true } = {}) {
  if (push) history.pushState(null, "", url);
  ending.abort();
  document.getElementById("servers-number").textContent = "…";
  table.setAttribute("aria-busy", "true");
  const wasOpen = document.getElementById("servers-filters").open;
  form.dataset.fresh = "servers-form";
  const answered = await refreshPage();
  if (!answered) return location.assign(url); // what is wrong is told by the page itself
  const fresh = document.getElementById("servers-form");
  delete fresh.dataset.fresh;
  if (wasOpen) document.getElementById("servers-filters").open = true;
  start();
  scrollTo(0, 0);
  return undefined;
}

/* Loading */

/** Loads the list that the URL is about; `again` where it is the one that is shown already. */
async function start({ again = false } = {}) {
  ending.abort();
  ending = new AbortController();
  const { signal } = ending;
  const wanted = wantedNow();
  const fresh = new ServerList(wanted);
  searching = wanted.ranked;
  try {
    const found = await load(fresh, wanted, signal, again ? () => {} : () => begin(fresh));
    begin(fresh);
    table.removeAttribute("aria-busy");
    settle();
    if (searching) watchSearch(wanted, found, signal);
  } catch (error) {
    if (signal.aborted) return;
    if ([401, 403].includes(error.status)) return state("refused", error);
    state("away");
    setTimeout(() => { if (!signal.aborted) start({ again }); }, 3000);
  }
}

/** The first page is shown, and followed, while the others are still to come. */
function begin(fresh) {
  if (list === fresh) return;
  list = fresh;
  if (!began) rows.begin();
  began = true;
  settle();
}

async function load(fresh, wanted, signal, arrived) {
  const sort = wanted.sort.replace("-", "");
  const fields = [...new Set([...FIELDS, ...(sort === "relevance" ? ["why"] : [sort])])];
  const query = new URLSearchParams(wanted.shared);
  query.set("status", "all");
  query.set("fields", fields.join(","));
  query.set("sort", wanted.sort);
  query.set("limit", String(wanted.ranked ? FOUND : PAGE));
  let followed = false;
  for (;;) {
    const response = await request(`servers?${query}`, { signal });
    const at = response.headers.get("X-Discovery-Revision");
    const page = await response.json();
    fresh.add(page.servers, at);
    if (!followed) {
      followed = true;
      arrived();
      follow({ query: wanted.stream, position: at, signal, on: reader(fresh, signal) });
    }
    settleSoon();
    if (!page.nextCursor || wanted.ranked) {
      fresh.isWhole = true;
      fresh.total = page.total;
      return found(page.servers, wanted);
    }
    query.set("cursor", page.nextCursor);
    await new Promise((resolve) => { setTimeout(resolve); }); // the window has its turn
  }
}

/** What a search found, as text; its order counts where that is the search's own. */
function found(servers, { sort }) {
  const told = servers.map(({ id, why }) => `${id} ${why}`);
  return (sort === "relevance" ? told : told.sort()).join("\n");
}

/** Waits until a search finds others than it has `known`, or in another order: a stream has no words. */
async function watchSearch(wanted, known, signal) {
  const query = new URLSearchParams(wanted.shared);
  query.set("status", "all");
  query.set("fields", "id,why");
  query.set("limit", String(FOUND));
  query.set("wait", "60s");
  const began = Date.now();
  while (!signal.aborted) {
    try {
      const response = await request(`servers?${query}`, { signal });
      query.set("index", response.headers.get("X-Discovery-Revision"));
      if (found((await response.json()).servers, wanted) === known) continue;
      await new Promise((resolve) => { setTimeout(resolve, Math.max(0, SEARCHED - (Date.now() - began))); });
      if (!signal.aborted) start({ again: true });
      return;
    } catch {
      await new Promise((resolve) => { setTimeout(resolve, 5000); });
    }
  }
}

/* What happens */

function reader(fresh, signal) {
  return {
    change: ({ id, server }) => {
      const happened = fresh.change(id, server, { onlyKnown: searching });
      if (happened === null || fresh !== list) return;
      heard(happened);
      if (happened.moved) settleSoon();
      else rows.schedule();
      countsSoon();
    },
    stale: () => refreshPage().then(settle),
    fresh: () => refreshPage().then(settle),
    startOver: () => { if (!signal.aborted) start({ again: true }); },
    state: (name, problem) => { if (!signal.aborted) state(name, problem); },
  };
}

const spoken = { at: 0, changes: 0, last: "", timer: 0 };

/** Changes of status are told, not one by one where there are many. */
function heard({ name, status, before }) {
  if (!before || status === before) return;
  spoken.changes += 1;
  spoken.last = `${name} is ${status}`;
  spoken.timer ||= setTimeout(() => {
    announce(spoken.changes === 1 ? spoken.last : `${spoken.changes} changes of status`);
    Object.assign(spoken, { at: Date.now(), changes: 0, timer: 0 });
  }, Math.max(500, SPOKEN - (Date.now() - spoken.at)));
}

function settleSoon() {
  settling ||= setTimeout(settle, SETTLED);
}

function settle() {
  clearTimeout(settling);
  settling = 0;
  if (!began) return;
  rows.show(list.rows(expanded));
  counts();
}

let counting = 0;

function countsSoon() {
  counting ||= setTimeout(counts, SETTLED);
}

function counts() {
  clearTimeout(counting);
  counting = 0;
  const { servers, instances } = list.numbers;
  const more = !list.isWhole ? "…" : list.total > list.size ? `, of ${list.total.toLocaleString("en")} that match` : "";
  document.getElementById("servers-number").textContent =
    `${servers.toLocaleString("en")} ${servers === 1 ? "server" : "servers"}, ${instances.toLocaleString("en")} ${instances === 1 ? "instance" : "instances"}${more}`;
  for (const each of document.querySelectorAll("[data-count]")) {
    const told = (each.dataset.count === "all" ? list.size : list.counts.get(each.dataset.count) ?? 0).toLocaleString("en");
    if (each.textContent !== told) each.textContent = told;
  }
  const empty = servers === 0;
  table.hidden = empty;
  // What to do about an empty list is the server's to say.
  if (list.isWhole && empty !== (document.getElementById("servers-empty") !== null)) refreshSoon();
}

let refreshing = 0;

function refreshSoon() {
  refreshing ||= setTimeout(() => { refreshing = 0; refreshPage(); }, 1000);
}

/* Rows */

function linkTo(row) {
  const base_ = `${table.dataset.servers}/${encodeURIComponent(row.name)}`;
  return row.level === 2 || row.only ? `${base_}?instance=${encodeURIComponent(row.id)}` : base_;
}

function toggle(row) {
  if (expanded.has(row.name)) expanded.delete(row.name);
  else expanded.add(row.name);
  settle();
}

function line(shown) {
  return element("span", { class: "servers-line" }, element("bdi", {}, text(shown)));
}

function cell(name, ...children) {
  return element("td", { role: "gridcell", class: `servers-${name}` }, ...children);
}

function fill(tr, row) {
  const shown = row.level === 1 ? list.summary(row) : list.instance(row);
  const link = element("a", { href: linkTo(row), tabindex: "-1" }, element("bdi", {}, text(shown.name)));
  const twist = row.isOpen === undefined ? null : element("span", { class: "servers-twist", "aria-hidden": "true" });
  const marks = shown.counts.map(([status, count]) => statusMark(status, shown.instances > 1 ? `${count} ${status}` : status));
  tr.replaceChildren(
    element("th", { role: "rowheader", scope: "row", class: "servers-name" }, twist, link, shown.text ? line(shown.text) : null),
    cell("status", element("span", { class: "servers-marks" }, marks), shown.reason ? line(shown.reason) : null),
    cell("since", when(shown.since)),
    cell("instances", row.level === 1 ? String(shown.instances) : ""),
    cell("version", text(shown.versions)),
    cell("zone", element("bdi", {}, text(shown.zones))),
    cell("transport", shown.transports),
  );
}

/* The form and the links */

document.addEventListener("submit", (event) => {
  if (event.target.id !== "servers-form") return;
  event.preventDefault();
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(event.target)) if (value.trim()) query.append(name, value.trim());
  go(`?${query}`);
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-here]");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.target.closest("input, textarea, select")) return;
  event.preventDefault();
  document.getElementById("servers-words").select();
});

addEventListener("popstate", () => go(location.href, { push: false }));

if (table.dataset.total !== "0") start();
else follow({ query: new URLSearchParams(), position: table.dataset.position, signal: ending.signal, on: awaited() });

/** Nothing is there yet: the first server brings the page. */
function awaited() {
  return { change: () => location.reload(), startOver: () => location.reload(), state, stale: () => refreshPage(), fresh: () => refreshPage() };
}
