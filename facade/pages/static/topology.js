// Keeps the topology current while somebody looks at it.
import { refreshPage } from "./site.js";

const PAUSE = 5000;

for (;;) {
  await new Promise((resolve) => { setTimeout(resolve, PAUSE); });
  if (!document.hidden) await refreshPage();
}
