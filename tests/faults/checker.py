"""Judges a history by the four promises. Knows nothing of how it came about.

**No ghost.** An instance that stopped answering is not shown ``healthy`` beyond one probe interval
while its sidecar lives (two where the requests for connecting to it are made up for), beyond TTL +
2 s where it does not.

**No loss.** A living instance is offered within 5 s of its store being back, and the list no longer
called stale.

**No panic.** A list of living instances is never emptied at once, and loses none that lives while
the store is away; a facade that cannot use its store says since when.

**No going back.** A reader never sees a revision fall within an epoch, nor two lists at one
revision, and at the end every reader has what is true.

Time in which the store or the facade was away is no facade's fault: a promise's clock starts anew
with their return. ``MARGIN`` is what the recorder's own polling and a busy machine may add.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.history import History, ObservedEvent, Terms
from tests.faults.observations import OFFERED, Reader, Truth, Violation

#: Seconds.
MARGIN = 1.5
BACK = 5.0
SILENT = 2.0
#: For so many probe intervals the requests that it took to connect may be made up for.
MADE_UP = 8
#: How long a facade may take to start, besides.
START = 5.0
#: A list is emptied "at once" when its last living entries go within so long.
AT_ONCE = 1.0


def judge(history: History) -> list[Violation]:
    """Every violation, in order of time; one for each time that a promise came to be broken."""
    return sorted(_Judge(history.terms).run(history), key=lambda each: each.at)


class _Judge:
    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._truth: dict[str, Truth] = {}
        self._readers: dict[str, Reader] = {}
        self._store_away = False
        #: Away for some, perhaps: a facade that says nothing of it may be one that can use it.
        self._store_shaky = False
        self._store_since = 0.0
        #: When it last went away.
        self._store_left = -1e9
        self._known: set[tuple[str, str, str]] = set()

    def run(self, history: History) -> Iterator[Violation]:
        last = 0.0
        for event in history:
            # What was true up to this moment is judged before the moment changes it.
            yield from self._standing(event.at)
            yield from self._take(event)
            last = event.at
        yield from self._standing(last)
        yield from self._settled(last)

    # -- what is taken in ----------------------------------------------------------------------

    def _take(self, one: ObservedEvent) -> Iterator[Violation]:
        match one.kind:
            case "note":
                return
            case "store-away" | "store-shaky" | "store-back":
                self._store_away = one.kind != "store-back"
                self._store_shaky = one.kind == "store-shaky"
                self._store_since = one.at
                if self._store_away:
                    self._store_left = one.at
                self._known.clear()
            case "facade-down" | "facade-up" | "facade-parted" | "facade-joined":
                for name, reader in self._readers.items():
                    if name.partition("/")[0] == one.target:
                        reader.facade(one)
                        self._forget(reader=name)
            case "unread" | "read" | "stale" | "fresh":
                if self._reader(one.target).seen(one):
                    self._forget(reader=one.target)
            case "list" | "change":
                yield from self._position(one)
                yield from self._listed(one, self._reader(one.target).listed(one))
            case _:
                self._truth.setdefault(one.target, Truth()).become(one)
                self._forget(id=one.target)

    def _reader(self, name: str) -> Reader:
        return self._readers.setdefault(name, Reader())

    def _position(self, one: ObservedEvent) -> Iterator[Violation]:
        reader = self._reader(one.target)
        epoch, revision = one.data["epoch"], one.data["revision"]
        id = str(one.data.get("id", "*"))
        if epoch == reader.epoch:
            how = f"was told at revision {revision} after {reader.revision}"
            same_again = one.kind == "change" and revision == reader.revision
            if revision < reader.revision or same_again:
                yield Violation("going back", one.at, one.target, id, how)
            elif revision == reader.revision and dict(one.data["servers"]) != reader.shown:
                how = f"is another list at the same revision {revision}"
                yield Violation("going back", one.at, one.target, id, how)
        reader.epoch, reader.revision = epoch, revision

    def _listed(self, one: ObservedEvent, shown: dict[str, str]) -> Iterator[Violation]:
        reader = self._reader(one.target)
        blind = self._store_away or reader.parted
        gone = [id for id in reader.shown if id not in shown]
        for id in gone:
            truth = self._truth.get(id)
            # The goodbye of the sidecar before this one may have been on its way for so long.
            settled = truth is not None and one.at - truth.watched_since > BACK
            if blind and truth is not None and truth.lives and settled:
                yield Violation("panic", one.at, one.target, id, "vanished: the store is away")
        before = {id for id, status in reader.shown.items() if status in OFFERED}
        for id in {*shown, *gone}:
            if shown.get(id) != reader.shown.get(id):
                reader.changed(id, one.at)
                self._forget(reader=one.target, id=id)
        reader.shown = shown
        now = {id for id, status in shown.items() if status in OFFERED}
        # Only those count that have lived for long, and that no other end accounts for.
        lasting = [id for id in before - now if self._lasts(id, one.at)]
        for id in lasting:
            reader.dropped[id] = one.at
        at_once = {id for id, at in reader.dropped.items() if one.at - at <= AT_ONCE}
        if lasting and not now and len(at_once) > 1:
            how = f"went with all others: {len(at_once)} that live, at once"
            yield Violation("panic", one.at, one.target, lasting[0], how)

    def _lasts(self, id: str, now: float) -> bool:
        truth = self._truth.get(id)
        return truth is not None and truth.lives and now - truth.since > BACK + self._terms.ttl

    def _forget(self, *, reader: str | None = None, id: str | None = None) -> None:
        """What is broken again after this is told again."""
        self._known = {
            each
            for each in self._known
            if (reader is not None and each[1] != reader) or (id is not None and each[2] != id)
        }

    # -- what must hold at every moment --------------------------------------------------------

    def _standing(self, now: float) -> Iterator[Violation]:
        for name, reader in self._readers.items():
            if reader.down:
                continue
            blind = self._store_away or reader.parted
            since = max(self._store_since, reader.since)
            if blind:
                must_say = reader.parted or not self._store_shaky
                if must_say and not reader.away and not reader.stale:
                    yield from self._silence(now, name, max(since, reader.read_since))
                continue
            if reader.away or reader.stale:
                due = max(since, reader.turned) + BACK + START * reader.away
                if now > due + MARGIN and self._first("loss", name, "*"):
                    what = "gives no list" if reader.away else "is stale"
                    yield Violation("loss", now, name, "*", f"{what} while its store is there")
                if reader.away:
                    continue
            since = max(since, reader.read_since)
            for id, truth in self._truth.items():
                if not reader.stale:
                    # What it says to be old, it may not know to be gone.
                    start = max(since, reader.turned)
                    yield from self._ghost(now, name, reader, id, truth, start)
                yield from self._loss(now, name, reader, id, truth, since)

    def _silence(self, now: float, name: str, since: float) -> Iterator[Violation]:
        if now > since + self._terms.notice + MARGIN and self._first("panic", name, "*"):
            how = f"is not called stale {now - since:.2f} s after the store went away"
            yield Violation("panic", now, name, "*", how)

    def _ghost(
        self, now: float, name: str, reader: Reader, id: str, truth: Truth, since: float
    ) -> Iterator[Violation]:
        if reader.shown.get(id) != "healthy":
            return
        silent = self._terms.ttl + SILENT
        if truth.left:
            # It said goodbye: there is nothing to wait for.
            due = max(truth.since, since, reader.shown_since(id)) + BACK
        elif not truth.vouched:
            # Nobody vouches for it, and TTL ends that, whether it answers or not. Who is shown anew
            # may be vouched for again before the recorder knows.
            due = max(max(truth.unvouched_since, since) + silent, reader.shown_since(id))
        elif not truth.serves:
            interval = self._terms.probe_interval
            if truth.serves_since - truth.connected_since < MADE_UP * interval:
                interval *= 2
            due = max(truth.serves_since, reader.shown_since(id)) + interval
            # Who watches it now may have to wait until the one before counts as dead, and who
            # returns to the store has to find out that it is there.
            due = max(due, self._end_of_predecessor(truth))
            if truth.unvouched_since:
                due = max(due, truth.vouched_since + BACK)
            if since:
                due = max(due, since + BACK)
        else:
            return
        if now > due + MARGIN and self._first("ghost", name, id):
            how = f"is shown healthy {now - truth.since:.2f} s after it stopped"
            yield Violation("ghost", now, name, id, how)

    def _loss(
        self, now: float, name: str, reader: Reader, id: str, truth: Truth, since: float
    ) -> Iterator[Violation]:
        if not truth.lives or reader.shown.get(id) in OFFERED:
            return
        due = max(
            since + BACK,
            truth.since + BACK,
            truth.watched_since + START + BACK,
            # A new sidecar may have to wait until its predecessor counts as dead.
            self._end_of_predecessor(truth) + BACK,
            reader.shown_since(id) + BACK,
        )
        if now > due + MARGIN and self._first("loss", name, id):
            status = reader.shown.get(id, "not listed")
            how = f"is {status} {now - truth.since:.2f} s after it began to live"
            yield Violation("loss", now, name, id, how)

    def _end_of_predecessor(self, truth: Truth) -> float:
        """Until when whoever vouched for it before may look alive. A store that was away in
        between knows no better, and starts to count when it is back."""
        if not truth.unvouched_since:
            return 0.0
        silent = self._terms.ttl + SILENT
        since = truth.unvouched_since
        if since > self._store_left - silent:
            since = max(since, self._store_since)
        return since + silent

    def _first(self, promise: str, reader: str, id: str) -> bool:
        fresh = (promise, reader, id) not in self._known
        self._known.add((promise, reader, id))
        return fresh

    # -- what must hold at the end -------------------------------------------------------------

    def _settled(self, now: float) -> Iterator[Violation]:
        for name, reader in self._readers.items():
            if reader.down:
                continue
            for is_so, what in ((reader.away, "gives no list"), (reader.stale, "is stale")):
                if is_so:
                    yield Violation("going back", now, name, "*", f"{what} at the end")
            if reader.away:
                continue
            offered = {id for id, status in reader.shown.items() if status in OFFERED}
            for id, truth in sorted(self._truth.items()):
                if truth.lives and id not in offered:
                    how = f"lives and is {reader.shown.get(id, 'missing')} in the last state"
                    yield Violation("going back", now, name, id, how)
            for id in sorted(offered - self._truth.keys()):
                yield Violation("going back", now, name, id, "is offered and never was")
            for id in sorted(offered & self._truth.keys()):
                truth = self._truth[id]
                if not (truth.serves and truth.watched) or truth.left:
                    how = "is offered at the end and does not live"
                    yield Violation("going back", now, name, id, how)
