// Keeps the status page current.
import { announce, refreshPage } from "./site.js";

const PAUSE = 5000;
const overall = () => document.getElementById("overall")?.dataset.overall;

async function follow() {
  let known = overall();
  for (;;) {
    await new Promise((resolve) => { setTimeout(resolve, PAUSE); });
    if (document.hidden) continue;
    if (!(await refreshPage())) continue;
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
