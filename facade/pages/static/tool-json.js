// JSON in which integers keep their digits, and text that is shown within bounds.
import { text } from "./site.js";

const exact = typeof JSON.rawJSON === "function";

/** The value that `json` writes; an integer that a number cannot hold stays as it is written. */
export function parse(json) {
  if (!exact || !/\d{16}/.test(json)) return JSON.parse(json);
  return JSON.parse(json, (_, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source)
      ? JSON.rawJSON(context.source)
      : value);
}

/** The number that `digits` write, whatever their number. */
export function integer(digits) {
  const value = Number(digits);
  return exact && !Number.isSafeInteger(value) ? JSON.rawJSON(String(BigInt(digits))) : value;
}

/** Whether `value` is a number, or an integer that JavaScript's cannot hold. */
export const isNumber = (value) => typeof value === "number" || isRaw(value);
const isRaw = (value) => exact && JSON.isRawJSON(value);

/** Whether `value` is an object of JSON. */
export const isObject = (value) =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !isRaw(value);

/** What `value` is called in JSON Schema. */
export function typeOf(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (isNumber(value)) return isRaw(value) || Number.isInteger(value) ? "integer" : "number";
  return typeof value;
}

/** `value` as JSON. */
export const stringify = (value, indent = 0) => JSON.stringify(value, null, indent);

/** Whether two values are the same JSON, their members in the same order. */
export const same = (one, other) => one === other || stringify(one) === stringify(other);

/** `value` as a text to show: of at most `most` characters, and nothing in it hidden. */
export function shown(value, most = 200) {
  const said = typeof value === "string" ? value : stringify(value) ?? "";
  return said.length > most ? `${text(said.slice(0, most))} …` : text(said);
}

/** `number` of `noun`s. */
export const counted = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

/** A size in bytes, in words. */
export function size(bytes) {
  if (bytes < 1024) return counted(bytes, "byte");
  return bytes < 2 ** 20 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
