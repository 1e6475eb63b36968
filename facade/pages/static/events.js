// Follows GET /events: what changes in the list, resumed where it broke off.
import { Problem, announce, base, element, statusMark, text, when } from "./site.js";

const SILENCE = 45_000; // a comment comes every 15 s
const HIDDEN = 60_000; // a page that nobody sees lets go of its connection
const LONGEST_PAUSE = 15_000;

/** The stream cannot go on from where its reader was. */
class StartOver extends Error {}

/**
 * Calls `on.change({id, server})`, `on.stale(facts)` and `on.fresh()` for what happens after
 * `position`, `on.startOver()` where that is not known any more, which ends it, and
 * `on.state(name, problem)` as it becomes `live`, `away` (it tries again), `paused` or `refused`.
 * Resolves when it has ended, at the latest once `signal` is aborted.
 */
export async function follow({ query, position, signal, on }) {
  let pause = 500;
  while (!signal.aborted) {
    await seen(signal);
    const connection = new AbortController();
    const end = () => connection.abort();
    const guard = guardOf(connection);
    signal.addEventListener("abort", end);
    try {
      const response = await fetch(new URL(`events?${query}`, base), {
        headers: { "Last-Event-ID": position, Accept: "text/event-stream" },
        signal: connection.signal,
      });
      if (!response.ok) throw await refusal(response);
      on.state("live");
      for await (const event of eventsOf(response.body, guard.heard)) {
        pause = 500;
        if (event.id) position = event.id;
        if (event.name) on[event.name]?.(JSON.parse(event.data));
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof StartOver) return on.startOver();
      if (error instanceof Problem && [400, 401, 403].includes(error.status)) return on.state("refused", error);
    } finally {
      guard.end();
      signal.removeEventListener("abort", end);
      connection.abort();
    }
    if (signal.aborted) return;
    if (guard.isHidden()) {
      on.state("paused");
      continue;
    }
    on.state("away");
    await slept(pause * (0.75 + Math.random() / 2), signal);
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }
}

/** What shows a stream's states in the element `place`, and says when it is not live any more. */
export function stateShownIn(place) {
  let awaySince = null;
  return (name, problem) => {
    const was = place.dataset.state;
    if (was === name) return;
    place.dataset.state = name;
    awaySince = name === "away" ? awaySince ?? new Date().toISOString() : null;
    const shown = {
      live: () => [statusMark("healthy", "Live")],
      paused: () => [statusMark("draining", "Paused")],
      away: () => [statusMark("degraded", "Disconnected"), " since ", when(awaySince), "; trying again"],
      refused: () => [statusMark("down", "Not live"), ": ", text(problem?.detail ?? "refused"), " ", element("a", { href: "" }, "Load again")],
    }[name]();
    place.replaceChildren(...shown);
    if (name === "away" || name === "refused") announce("The page is not live any more");
    else if (name === "live" && was === "away") announce("The page is live again");
  };
}

async function refusal(response) {
  const told = await response.json().catch(() => ({}));
  return new Problem(response.status, told.title, told.detail, told);
}

/** Ends `connection` when nothing is heard for long, or nobody has seen the page for a while. */
function guardOf(connection) {
  let heard = Date.now();
  let hiddenSince = 0;
  let hidden = false;
  const timer = setInterval(() => {
    const now = Date.now();
    hiddenSince = document.hidden ? hiddenSince || now : 0;
    hidden = hiddenSince > 0 && now - hiddenSince > HIDDEN;
    if (hidden || now - heard > SILENCE) connection.abort();
  }, 1000);
  return {
    heard: () => { heard = Date.now(); },
    isHidden: () => hidden && document.hidden,
    end: () => clearInterval(timer),
  };
}

/** Resolves as soon as somebody sees the page. */
function seen(signal) {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    document.addEventListener("visibilitychange", resolve, { once: true, signal });
    signal.addEventListener("abort", resolve, { once: true });
  });
}

function slept(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
    addEventListener("online", () => { clearTimeout(timer); resolve(); }, { once: true, signal });
  });
}

/** The events in `body`. A snapshot may have megabytes, so it is not waited for. */
async function* eventsOf(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  let event = { id: "", name: "", data: "" };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    buffer += value;
    for (let end = buffer.indexOf("\n"); end >= 0; end = buffer.indexOf("\n")) {
      const line = buffer.slice(0, end);
      buffer = buffer.slice(end + 1);
      if (line === "") {
        yield event;
        event = { id: "", name: "", data: "" };
      } else if (line.startsWith("id: ")) event.id = line.slice(4);
      else if (line.startsWith("data: ")) event.data += line.slice(6);
      else if (line.startsWith("event: ")) {
        event.name = line.slice(7);
        if (event.name === "snapshot") throw new StartOver();
      }
    }
  }
}
