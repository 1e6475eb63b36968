// A worker that tests a pattern: one that does not end is ended with the worker.
addEventListener("message", ({ data: { pattern, value } }) => {
  try {
    postMessage(new RegExp(pattern, "u").test(value));
  } catch {
    postMessage(null);
  }
});
