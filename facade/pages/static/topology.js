// Keeps the topology current while somebody looks at it.
import { announce, refreshPage } from "./site.js";

const PAUSE = 5000;
let away = false;

for (;;) {
  await new Promise((resolve) => { setTimeout(resolve, PAUSE); });
  if (document.hidden) continue;
  const answered = await refreshPage();
  if (answered === away) {
    away = !answered;
    announce(away ? "The facade cannot be reached; the page shows what it said last." : "The facade answers again.");
  }
}
