"""The sidecar's figures, in Prometheus's text format: ``/metrics`` of the health port.

Written by hand, because prometheus_client would be paid for beside every MCP server. The format is
https://prometheus.io/docs/instrumenting/exposition_formats/ (text, 0.0.4). What each figure means
to an operator: docs/operations.md.
"""

from __future__ import annotations

import math
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

from mcp_discovery.adapters.observed_store import Tally
from mcp_discovery.adapters.store import CredentialsEnd
from mcp_discovery.errors import StoreFault
from mcp_discovery.health import Health, Load, Status
from mcp_discovery.probe import A2aProbe, McpProbe, Probe, ProbeError
from mcp_discovery.probe.handshake import Renewal
from mcp_discovery.sidecar.process_figures import ProcessFigures
from mcp_discovery.tls_files import CERTIFICATE_METRICS, certificates_in_use

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: The store operations that renew a registration.
_RENEWALS = ("register", "heartbeat")

#: How the format has these written in the value of a label: a file's path may hold them.
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Labels: TypeAlias = Mapping[str, str]
#: One figure; a third part is what the name of its family is followed by.
Sample: TypeAlias = tuple[Labels, float] | tuple[Labels, float, str]
_PREFIX = "mcp_discovery_sidecar_"


class Family(NamedTuple):
    """All samples of one metric."""

    name: str
    kind: str
    text: str
    samples: tuple[Sample, ...]


class Histogram:
    """How many of some durations were how long, in seconds."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0.0
        self._counts = [0] * (len(_BUCKETS) + 1)

    def add(self, seconds: float) -> None:
        """Counts one."""
        self.count += 1
        self._sum += seconds
        self._counts[bisect_left(_BUCKETS, seconds)] += 1

    def samples(self, labels: Labels) -> Iterator[Sample]:
        """The samples of a family of the kind ``histogram``."""
        for limit, total in zip((*_BUCKETS, "+Inf"), accumulate(self._counts), strict=True):
            yield {**labels, "le": str(limit)}, total, "_bucket"
        yield from self.totals(labels)

    def totals(self, labels: Labels) -> Iterator[Sample]:
        """The samples of a family of the kind ``summary``: a tenth of a histogram's."""
        yield labels, self.count, "_count"
        yield labels, self._sum, "_sum"


class SidecarFigures:
    """What one sidecar has counted.

    ``health`` and ``instance`` (server name and instance id) are set when they are known;
    ``beside`` gives further figures.
    """

    def __init__(self) -> None:
        self._tally = Tally(*_RENEWALS)
        self._answered = Histogram()
        self._use: ProcessFigures | None = None
        #: The load to report.
        self.load: Callable[[], Load | None] = lambda: None
        self.beside: Callable[[], Iterable[Family]] = tuple
        self._failed = 0
        self._unreadable = 0
        self._renewed: float | None = None
        self._took = 0.0  # by the last heartbeat
        self.health: Health | None = None
        #: Whether it was told to drain, or to end.
        self.leaving = False
        self.instance: tuple[str, str] | None = None

    @contextmanager
    def store_call(self, operation: str) -> Iterator[None]:
        """Counts a call to the store; an :data:`mcp_discovery.adapters.observed_store.Around`."""
        began = time.monotonic()
        with self._tally(operation):
            yield
        if operation in _RENEWALS:
            self._renewed, self._took = began, time.monotonic() - began

    def measure(self, use: ProcessFigures, load: Callable[[], Load | None]) -> None:
        """Takes what its child's processes use, and what to report of it."""
        self._use, self.load = use, load

    def answered(self, seconds: float) -> None:
        """A probe was answered within ``seconds``."""
        self._answered.add(seconds)

    def failed(self) -> None:
        """A probe failed."""
        self._failed += 1

    def exposition(
        self,
        why_not_ready: str | None,
        end: CredentialsEnd | None = None,
        trouble: StoreFault | None = None,
    ) -> str:
        """All figures in Prometheus's text format; ``why_not_ready`` is what the registrar says,
        ``end`` that of the store's credentials, ``trouble`` what is wrong with the store."""
        own = self.families(registered=why_not_ready is None, trouble=trouble)
        return exposition(({}, own), ({}, of_process(end)))

    def unreadable(self) -> None:
        """What the server offers cannot be read from now on."""
        self._unreadable += 1

    def families(self, *, registered: bool, trouble: StoreFault | None) -> Iterator[Family]:
        """What is counted of one server, beside :func:`of_process`."""
        if self.instance is not None:
            text = "Always 1; which server, and which instance of it, the sidecar is beside."
            labels = dict(zip(("name", "id"), self.instance, strict=True))
            yield from family("instance_info", "gauge", text, (labels, 1))
        if self.health is not None:
            text = "1 for the status that the last probe found, 0 for the others."
            now = self.health.status
            statuses = (({"status": each.value}, int(each is now)) for each in Status)
            yield from family("server_status", "gauge", text, *statuses)
        text = "1 while the instance can be counted on to be listed, 0 otherwise."
        yield from family("registered", "gauge", text, ({}, int(registered)))
        text = "1 once the sidecar was told to drain or to end, 0 before."
        yield from family("leaving", "gauge", text, ({}, int(self.leaving)))
        if self._renewed is not None:
            at = time.time() - (time.monotonic() - self._renewed)
            text = "When the last heartbeat was sent that the store took, in seconds since 1970."
            yield from family("last_heartbeat_timestamp_seconds", "gauge", text, ({}, at))
            text = "How long that heartbeat took."
            yield from family("last_heartbeat_duration_seconds", "gauge", text, ({}, self._took))
        calls = (
            ({"operation": operation, "outcome": outcome}, number)
            for (operation, outcome), number in sorted(self._tally.counts.items())
        )
        text = "Calls to the store, by how they ended."
        yield from family("store_operations_total", "counter", text, *calls)
        text = "1 for what keeps the store from taking heartbeats; no series while it does."
        causes = () if trouble is None else (({"cause": trouble.value}, 1),)
        yield from family("store_trouble", "gauge", text, *causes)
        text = "Probes that got no good answer in time; attempts to connect included."
        yield from family("probes_failed_total", "counter", text, ({}, self._failed))
        text = "How often the server became one whose tools and the like cannot be read."
        yield from family("unreadable_total", "counter", text, ({}, self._unreadable))
        text = "Time that the MCP server took to answer a probe."
        answered = self._answered.samples({})
        yield from family("probe_duration_seconds", "histogram", text, *answered)
        if self._use is not None and (use := self._use.read()) is not None:
            text = "Resident memory of the child's processes in bytes."
            yield from family("child_resident_memory_bytes", "gauge", text, ({}, use.memory))
            text = "Processor time that the child's processes have taken in seconds."
            yield from family("child_cpu_seconds_total", "counter", text, ({}, use.seconds))
            text = "How many processes the child is."
            yield from family("child_processes", "gauge", text, ({}, use.processes))
        yield from self.beside()


class _CountedRequests(Probe):
    """A probe that counts in ``figures`` how its requests ended."""

    def __init__(self, url: str, *, figures: SidecarFigures, **options: Any) -> None:
        super().__init__(url, **options)
        self._figures = figures

    async def connect(self, timeout: float, renewals: Iterable[Renewal] = ()) -> None:
        with self._counted():
            await super().connect(timeout, renewals)

    async def ping(self, timeout: float, *, along: bool = False) -> float:
        with self._counted():
            seconds = await super().ping(timeout, along=along)
        self._figures.answered(seconds)
        return seconds

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except ProbeError:
            self._figures.failed()
            raise


class CountedProbe(_CountedRequests, McpProbe):
    """An McpProbe that is counted."""


class CountedAgentProbe(_CountedRequests, A2aProbe):
    """An A2aProbe that is counted."""


def of_process(end: CredentialsEnd | None) -> Iterator[Family]:
    """What there is once in a process, however many servers it is beside; ``end`` is that of the
    store's credentials."""
    text = "The clock of its machine, in seconds since 1970."
    yield from family("time_seconds", "gauge", text, ({}, time.time()))
    text = "When the token for the store expires, in seconds since 1970; +Inf if it does not."
    at = end.at.timestamp() if end is not None else math.inf
    yield from family("store_token_expires_timestamp_seconds", "gauge", text, ({}, at))
    files = certificates_in_use()
    for name, text, seconds in CERTIFICATE_METRICS:
        ends = (
            ({"role": "sidecar", "purpose": each.purpose, "file": each.file}, seconds(each))
            for each in files
        )
        yield from family(name, "gauge", text, *ends, prefix="mcp_discovery_")
    yield from _process()


def exposition(*parts: tuple[Labels, Iterable[Family]]) -> str:
    """``parts`` in Prometheus's text format, each with labels for all of its samples."""
    heads: dict[str, str] = {}
    samples: dict[str, list[str]] = {}
    for common, families in parts:
        for each in families:
            heads.setdefault(
                each.name, f"# HELP {each.name} {each.text}\n# TYPE {each.name} {each.kind}\n"
            )
            samples.setdefault(each.name, []).extend(
                _line(f"{each.name}{''.join(suffix)}", {**common, **labels}, value)
                for labels, value, *suffix in each.samples
            )
    return "".join(f"{head}{''.join(samples[name])}" for name, head in heads.items())


def family(
    name: str, kind: str, text: str, *samples: Sample, prefix: str = _PREFIX
) -> Iterator[Family]:
    """One metric of a sidecar, without its prefix in ``name``."""
    yield Family(f"{prefix}{name}", kind, text, samples)


def _line(name: str, labels: Labels, value: float) -> str:
    joined = ",".join(f'{label}="{text.translate(_ESCAPED)}"' for label, text in labels.items())
    return f"{name}{{{joined}}} {value}\n" if joined else f"{name} {value}\n"


def _process() -> Iterator[Family]:
    """Memory, where the system has /proc as Linux does, and CPU time, under their usual names."""
    text, spent = "Total user and system CPU time spent in seconds.", time.process_time()
    yield from family("process_cpu_seconds_total", "counter", text, ({}, spent), prefix="")
    try:
        with open("/proc/self/statm", "rb") as file:
            pages = int(file.read().split()[1])
    except OSError:
        return
    text, size = "Resident memory size in bytes.", pages * os.sysconf("SC_PAGE_SIZE")
    yield from family("process_resident_memory_bytes", "gauge", text, ({}, size), prefix="")
