// Verifies the log on request, and shows what that found.
import { announce, api, element, offerCopies, statusMark, text } from "./site.js";

const button = document.getElementById("verify");
const shown = document.getElementById("verified");

function told(found) {
  const entries = `${found.entries.toLocaleString("en")} ${found.entries === 1 ? "entry" : "entries"}`;
  if (found.whole) {
    return element(
      "div",
      { class: "notice good" },
      element("p", {}, statusMark("healthy", "The log is whole"), ` ${entries} verified in ${found.seconds} s.`),
      found.head && element("p", { class: "small" }, "Its head, to keep where the facade cannot write:"),
      found.head &&
        element(
          "div",
          { class: "copyable" },
          element("pre", { tabindex: 0, "aria-label": "Head of the log" }, element("code", {}, found.head)),
          element("button", { class: "button small", type: "button", "data-copy": true, hidden: true, "aria-label": "Copy: head of the log" }, "Copy"),
        ),
    );
  }
  return element(
    "div",
    { class: "notice bad" },
    element("p", {}, statusMark("down", "The log was changed"), ` ${entries} read.`),
    element("ul", {}, found.faults.map((each) => element("li", {}, text(`${each.where}: ${each.fault}`)))),
    found.moreFaults > 0 && element("p", {}, `and ${found.moreFaults} more`),
  );
}

button?.addEventListener("click", async (event) => {
  event.preventDefault();
  button.setAttribute("aria-disabled", "true");
  shown.replaceChildren(element("p", { class: "notice" }, "Reading the whole log …"));
  try {
    const found = await api("audit/verification");
    shown.replaceChildren(told(found));
    offerCopies(shown);
    announce(found.whole ? "The log is whole" : "The log was changed");
  } catch (error) {
    shown.replaceChildren(element("p", { class: "notice bad", role: "alert" }, text(error.message)));
  } finally {
    button.removeAttribute("aria-disabled");
  }
});
