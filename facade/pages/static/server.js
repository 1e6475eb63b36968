// The page of one server: its parts are fetched anew when the server changes.
import { announce, refreshPage, text } from "./site.js";
import { follow, stateShownIn } from "./events.js";

const { name, position } = document.getElementById("server").dataset;
const known = new Map();
const PAUSE = 1000; // ms between two fetches, however much changes

let timer = 0;
let at = 0;

function refreshSoon() {
  timer ||= setTimeout(async () => {
    timer = 0;
    at = Date.now();
    if (!(await refreshPage())) location.reload(); // it may be gone
  }, Math.max(0, at + PAUSE - Date.now()));
}

const on = {
  change({ id, server }) {
    const status = server?.status ?? "gone";
    if (known.get(id) !== status) announce(`${id} is ${status}${status === "healthy" || !server ? "" : `: ${text(server.reason)}`}`);
    known.set(id, status);
    refreshSoon();
  },
  stale: refreshSoon,
  fresh: refreshSoon,
  startOver() {
    refreshSoon();
    setTimeout(() => location.reload(), PAUSE);
  },
  state: stateShownIn(document.getElementById("server-live")),
};

for (const row of document.querySelectorAll(".server-instances tbody tr")) {
  known.set(row.querySelector("a").textContent, row.querySelector(".mark").textContent.trim());
}
follow({ query: new URLSearchParams({ name, kind: "all" }), position, signal: new AbortController().signal, on });
