// Shows those of very many rows, all of one height, that are in the window. The rows are real ones
// of a tree grid (WAI-ARIA 1.2): each says its place among all, and one of them has the focus.
import { element } from "./site.js";

const BEYOND = 8; // so many rows above and below the window are there as well

export class VirtualRows {
  /**
   * `fill(tr, row)` shows a row in a `tr`; a row has a `key`, a `stamp` that changes with what it
   * shows, a `level` (1, 2) and `isOpen` (`undefined` for one that has nothing below it).
   * `open(row)` follows it, `toggle(row)` opens or closes what is below it.
   */
  constructor(table, { fill, open, toggle }) {
    this.table = table;
    this.body = table.tBodies[0];
    this.fill = fill;
    this.open = open;
    this.toggle = toggle;
    this.rows = [];
    this.places = new Map();
    this.shown = new Map();
    this.active = null;
    this.frame = 0;
    this.height = 0;
  }

  /** Takes the place of the rows that the server made. */
  begin() {
    this.body.replaceChildren();
    this.table.setAttribute("role", "treegrid");
    this.table.classList.add("servers-virtual");
    addEventListener("scroll", () => this.schedule(), { passive: true });
    addEventListener("resize", () => { this.height = 0; this.schedule(); });
    this.body.addEventListener("keydown", (event) => this.key(event));
    this.body.addEventListener("click", (event) => this.click(event));
    this.body.addEventListener("focusin", (event) => {
      this.active = event.target.closest("tr").dataset.key;
      this.schedule();
    });
  }

  /** Shows these rows from the next frame on. */
  show(rows) {
    this.rows = rows;
    this.places = new Map(rows.map((row, place) => [row.key, place]));
    if (!this.places.has(this.active)) this.active = rows[0]?.key ?? null;
    this.schedule();
  }

  /** Draws before the next frame what has another stamp than it had. */
  schedule() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  draw() {
    const { body, rows } = this;
    if (!this.height) this.measure();
    body.style.height = `${rows.length * this.height}px`;
    this.table.setAttribute("aria-rowcount", String(rows.length + 1));
    const top = body.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / this.height) - BEYOND);
    const last = Math.min(rows.length, Math.ceil((innerHeight - top) / this.height) + BEYOND);
    const places = [];
    for (let place = first; place < last; place += 1) places.push(place);
    const active = this.places.get(this.active);
    if (active !== undefined && (active < first || active >= last)) {
      if (active < first) places.unshift(active);
      else places.push(active);
    }
    const wanted = new Set(places.map((place) => rows[place].key));
    const spare = [];
    for (const [key, each] of this.shown) {
      if (wanted.has(key)) continue;
      this.shown.delete(key);
      spare.push(each);
    }
    const hadFocus = body.contains(document.activeElement);
    let before = null;
    for (const place of places) {
      const row = rows[place];
      let each = this.shown.get(row.key);
      if (!each) {
        each = spare.pop() ?? { tr: element("tr", { role: "row" }) };
        each.stamp = each.place = undefined;
        this.shown.set(row.key, each);
      }
      this.update(each, row, place);
      if (each.tr.parentNode !== body || each.tr.previousSibling !== before) {
        body.insertBefore(each.tr, before ? before.nextSibling : body.firstChild);
      }
      before = each.tr;
    }
    for (const each of spare) each.tr.remove();
    if (hadFocus && !body.contains(document.activeElement)) this.focus();
  }

  update(each, row, place) {
    const { tr } = each;
    if (each.place !== place) {
      each.place = place;
      tr.style.transform = `translateY(${place * this.height}px)`;
      tr.setAttribute("aria-rowindex", String(place + 2));
    }
    if (each.stamp !== row.stamp || each.key !== row.key) {
      each.stamp = row.stamp;
      each.key = row.key;
      tr.dataset.key = row.key;
      tr.setAttribute("aria-level", String(row.level));
      if (row.isOpen === undefined) tr.removeAttribute("aria-expanded");
      else tr.setAttribute("aria-expanded", String(row.isOpen));
      this.fill(tr, row);
    }
    const index = row.key === this.active ? "0" : "-1";
    if (tr.getAttribute("tabindex") !== index) tr.setAttribute("tabindex", index);
  }

  measure() {
    const probe = element("tr", { role: "row" });
    this.body.append(probe);
    this.height = (probe.getBoundingClientRect().height || 52) + parseFloat(getComputedStyle(probe).marginBottom);
    probe.remove();
    for (const each of this.shown.values()) each.place = undefined;
  }

  /** Where the rows begin to be seen, below what stays at the window's top. */
  get edge() {
    const head = this.table.tHead.getBoundingClientRect();
    return head.height > 2 ? Math.max(0, head.bottom) : 0;
  }

  focus() {
    this.shown.get(this.active)?.tr.focus({ preventScroll: true });
  }

  /** Moves the focus to the row at `place`, and the window there. */
  go(place) {
    const row = this.rows[Math.max(0, Math.min(place, this.rows.length - 1))];
    if (!row) return;
    this.active = row.key;
    const top = this.body.getBoundingClientRect().top + this.places.get(row.key) * this.height;
    if (top < this.edge) scrollBy(0, top - this.edge);
    else if (top + this.height > innerHeight) scrollBy(0, top + this.height - innerHeight);
    this.draw();
    this.focus();
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const place = this.places.get(event.target.closest("tr")?.dataset.key);
    if (place === undefined) return;
    const row = this.rows[place];
    const page = Math.max(1, Math.floor((innerHeight - this.edge) / this.height) - 1);
    const moves = {
      ArrowDown: place + 1, ArrowUp: place - 1, PageDown: place + page, PageUp: place - page,
      Home: 0, End: this.rows.length - 1,
    };
    if (event.key in moves) this.go(moves[event.key]);
    else if (event.key === "Enter") this.open(row);
    else if (event.key === "ArrowRight" && row.isOpen === false) this.toggle(row);
    else if (event.key === "ArrowLeft" && row.isOpen) this.toggle(row);
    else if (event.key === "ArrowLeft" && row.level > 1) this.go(this.parentOf(place));
    else if (event.key === " " && row.isOpen !== undefined) this.toggle(row);
    else return;
    event.preventDefault();
  }

  parentOf(place) {
    while (place > 0 && this.rows[place].level > 1) place -= 1;
    return place;
  }

  click(event) {
    const row = this.rows[this.places.get(event.target.closest("tr")?.dataset.key)];
    if (!row || event.target.closest("a")) return;
    this.active = row.key;
    if (row.isOpen !== undefined) this.toggle(row);
    else this.schedule();
  }
}
