// Keeps the status page current, and says so when it cannot be.
import { announce, refreshPage, statusMark } from "./site.js";

const PAUSE = 5000;
const overall = () => document.getElementById("overall")?.dataset.overall;

async function follow() {
  let known = overall();
  for (;;) {
    await new Promise((resolve) => { setTimeout(resolve, PAUSE); });
    if (document.hidden) continue;
    const answered = await refreshPage();
    const stale = document.getElementById("stale");
    if (!answered) {
      if (!stale.textContent) stale.replaceChildren(statusMark("down", "The facade cannot be reached; this is what it said last."));
      continue;
    }
    stale.textContent = "";
    const asOf = document.getElementById("as-of");
    asOf.dateTime = new Date().toISOString();
    asOf.textContent = new Date().toLocaleTimeString();
    if (overall() !== known) {
      known = overall();
      announce(document.getElementById("overall").textContent.trim().replace(/\s+/g, " "));
    }
  }
}

document.getElementById("as-of").textContent = new Date().toLocaleTimeString();
follow();
