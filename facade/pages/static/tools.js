// Searches while somebody types: each answer is the page that a form would have brought.
import { announce, sayCurrent } from "./site.js";

const PAUSE = 200;
const form = document.getElementById("search");
let timer = 0;
let running = null;

function address() {
  const url = new URL(form.action);
  for (const [name, value] of new FormData(form)) if (value.trim()) url.searchParams.append(name, value);
  return url;
}

async function search(url = address()) {
  clearTimeout(timer);
  running?.abort();
  const mine = (running = new AbortController());
  const found = document.getElementById("found");
  found.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(url, { headers: { Accept: "text/html" }, signal: mine.signal });
    const made = new DOMParser().parseFromString(await response.text(), "text/html");
    const fresh = made.getElementById("found");
    if (!fresh) { location.assign(url); return; }
    sayCurrent(null);
    found.replaceWith(document.importNode(fresh, true));
    history.replaceState(null, "", url);
    announce(fresh.dataset.announce);
  } catch (error) {
    if (error.name === "AbortError") return;
    found.removeAttribute("aria-busy");
    sayCurrent("away");
  }
}

form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(search, PAUSE); });
form.addEventListener("change", () => search());
document.addEventListener("click", async (event) => {
  const more = event.target.closest?.("#more");
  if (!more || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const before = document.querySelectorAll(".tools-list > li").length;
  await search(new URL(more.href));
  document.querySelectorAll(".tools-list > li")[before]?.querySelector("a")?.focus();
});
