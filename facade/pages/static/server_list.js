// The list as the page of all servers shows it: instances in order, grouped by their server.

const STATUSES = ["healthy", "degraded", "draining", "down", "quarantined"];
const LONGEST = 200; // characters of a description
const NAMED = 2; // different versions, zones, transports

/** Like `precedence` of semantic versions (semver.org, 11): what sorts texts as their versions do. */
function precedence(version) {
  const [plain] = String(version ?? "").split("+");
  const [core, ...pre] = plain.split("-");
  const numbers = core.split(".").map((each) => each.padStart(12, "0"));
  const labels = pre.join("-").split(".").map((each) => (/^\d+$/.test(each) ? `0${each.padStart(12, "0")}` : `1${each}`));
  return `${numbers.join(".")} ${pre.length ? labels.join(".") : "~"}`;
}

function named(values) {
  const known = [...new Set(values)].filter(Boolean);
  return known.slice(0, NAMED).join(", ") + (known.length > NAMED ? ` +${known.length - NAMED}` : "");
}

function worst(instances) {
  return instances.reduce((one, other) => {
    const by = STATUSES.indexOf(other.status) - STATUSES.indexOf(one.status);
    return by > 0 || (by === 0 && other.since > one.since) ? other : one;
  });
}

export class ServerList {
  /** `statuses` are those that are shown, all where there is none; `sort` is as in the API. */
  constructor({ statuses = new Set(), sort = "name" } = {}) {
    this.statuses = statuses;
    this.field = sort.replace("-", "");
    this.sign = sort.startsWith("-") ? -1 : 1;
    this.byId = new Map();
    this.changedAt = new Map();
    this.counts = new Map();
    this.order = [];
    this.groups = new Map();
    this.isSorted = true;
    this.isWhole = false;
    this.total = 0;
    this.stamps = 0;
  }

  get size() {
    return this.byId.size;
  }

  /** How many servers and instances are shown. */
  get numbers() {
    let instances = 0;
    for (const each of this.groups.values()) instances += each.instances.length;
    return { servers: this.groups.size, instances };
  }

  /** Takes in a page of the API as of the position `at`; what has changed since is newer. */
  add(servers, at) {
    const [epoch, revision] = at.split(":");
    this.epoch ??= epoch;
    for (const server of servers) {
      if ((this.changedAt.get(server.id) ?? -1) > Number(revision)) continue;
      this.put(server.id, server);
    }
    this.isSorted = false;
  }

  /**
   * One change of the stream: tells the server's name, its status and the one before, and whether
   * rows have `moved`; `null` where nothing that is shown is another.
   */
  change(id, server, { onlyKnown }) {
    const before = this.byId.get(id);
    if (!before && (!server || onlyKnown)) return null;
    if (!this.isWhole) this.changedAt.set(id, Infinity);
    const was = before && { status: before.status, key: before.key, name: before.name };
    if (!server) {
      if (onlyKnown) return null; // the search decides
      this.byId.delete(id);
      this.isSorted = false;
      this.count(was.status, -1);
      return { name: was.name, status: "gone", before: was.status, moved: true };
    }
    const instance = this.put(id, server);
    const hidden = this.statuses.size > 0 && was?.status !== instance.status;
    const moved = !was || was.key !== instance.key || was.name !== instance.name || hidden;
    if (moved) this.isSorted = false;
    else this.touch(instance.name);
    return { name: instance.name, status: instance.status, before: was?.status, moved };
  }

  put(id, server) {
    let instance = this.byId.get(id);
    if (!instance) {
      instance = { id, rank: this.byId.size };
      this.byId.set(id, instance);
    } else this.count(instance.status, -1);
    instance.name = server.name;
    instance.text = (server.title ?? server.description ?? "").slice(0, LONGEST);
    instance.why = server.why ?? instance.why;
    instance.status = server.status;
    instance.reason = server.reason;
    instance.since = server.since;
    instance.version = server.version;
    instance.transport = server.transport;
    instance.zone = server.zone ?? "";
    instance.stamp = this.stamps += 1;
    instance.key = this.keyOf(instance, server);
    this.count(instance.status, 1);
    return instance;
  }

  keyOf(instance, server) {
    switch (this.field) {
      case "relevance": return instance.rank;
      case "version": return precedence(server.version);
      case "load": return server.load?.capacity ? Math.min(1, server.load.active / server.load.capacity) : null;
      default: return server[this.field] ?? null;
    }
  }

  count(status, by) {
    this.counts.set(status, (this.counts.get(status) ?? 0) + by);
  }

  touch(name) {
    const group = this.groups.get(name);
    if (group) group.stamp = this.stamps += 1;
  }

  /** The rows: each server, in the place of its first instance, and below it those of `expanded`. */
  rows(expanded) {
    if (!this.isSorted) this.arrange();
    const rows = [];
    for (const group of this.groups.values()) {
      const { name, instances } = group;
      const only = instances.length === 1;
      const isOpen = only ? undefined : expanded.has(name);
      rows.push({ key: name, name, level: 1, isOpen, only, id: instances[0].id, group, get stamp() { return `${group.stamp}${isOpen}`; } });
      if (!isOpen) continue;
      for (const each of instances) {
        rows.push({ key: `${name} ${each.id}`, name, level: 2, id: each.id, isOpen: undefined, get stamp() { return each.stamp; } });
      }
    }
    return rows;
  }

  arrange() {
    const { sign, statuses } = this;
    const shown = statuses.size
      ? [...this.byId.values()].filter((each) => statuses.has(each.status))
      : [...this.byId.values()];
    shown.sort((one, other) => {
      if (one.key === other.key) return one.id < other.id ? -1 : 1;
      if (one.key === null) return 1;
      if (other.key === null) return -1;
      return one.key < other.key ? -sign : sign;
    });
    const groups = new Map();
    for (const each of shown) {
      const group = groups.get(each.name);
      if (group) group.instances.push(each);
      else groups.set(each.name, { name: each.name, instances: [each], stamp: 0 });
    }
    for (const group of groups.values()) {
      const known = this.groups.get(group.name);
      const same = known?.instances.length === group.instances.length && known.instances.every((each, place) => each === group.instances[place]);
      // Whatever changed in a group, its stamp is then at least that of its newest instance.
      group.stamp = same ? Math.max(known.stamp, newest(group)) : (this.stamps += 1);
    }
    this.groups = groups;
    this.isSorted = true;
  }

  /** What the row of a server shows. */
  summary({ group }) {
    const { instances } = group;
    const first = instances[0];
    const counts = new Map();
    for (const each of instances) counts.set(each.status, (counts.get(each.status) ?? 0) + 1);
    const bad = worst(instances);
    const versions = [...new Set(instances.map((each) => each.version))].sort((one, other) => (precedence(one) < precedence(other) ? -1 : 1));
    return {
      name: first.name,
      text: first.why ?? first.text,
      instances: instances.length,
      counts: STATUSES.filter((each) => counts.has(each)).map((each) => [each, counts.get(each)]),
      reason: bad.status === "healthy" ? "" : bad.reason,
      since: bad.since,
      versions: named(versions),
      zones: named(instances.map((each) => each.zone).sort()),
      transports: named(instances.map((each) => each.transport).sort()),
    };
  }

  /** What the row of one instance shows. */
  instance({ id }) {
    const each = this.byId.get(id);
    return {
      name: id, text: "", instances: 1, counts: [[each.status, 1]],
      reason: each.status === "healthy" ? "" : each.reason,
      since: each.since, versions: each.version, zones: each.zone, transports: each.transport,
    };
  }
}

function newest(group) {
  let found = 0;
  for (const each of group.instances) if (each.stamp > found) found = each.stamp;
  return found;
}
