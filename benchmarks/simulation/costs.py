"""The parameters of the model: what each thing costs a real store, measured on one machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter

#: What ``python -m benchmarks.simulate --measure`` wrote on the machine that it names.
MEASURED = Path(__file__).parents[2] / "docs" / "performance" / "measured.json"


@dataclass(frozen=True, slots=True)
class EtcdCosts:
    """etcd through its JSON gateway. ``…_cpu`` are seconds of one core.

    What sidecars do was done to three members in turn: ``…_leader_cpu`` is what of it the leader
    had to do, for each one that was done anywhere.
    """

    #: One heartbeat without news: every other one keeps both leases alive, the others look.
    beat_leader_cpu: float
    #: Its bytes and those of its answer, HTTP heads included.
    beat_bytes: float
    #: One instance registered and deregistered again, with all that its sidecar asks on the way.
    life_leader_cpu: float
    life_bytes: float
    #: One changed health, without anybody who watches.
    change_leader_cpu: float
    change_bytes: float
    #: One change delivered to one watch by the member that has the watch.
    delivery_cpu: float
    delivery_bytes: float
    #: From put to a bare watch, in seconds, with nothing else to do.
    delay: float
    #: The member's time for one instance in a full list.
    listed_cpu: float
    #: Bytes of a member's memory for one more watch and one more instance, and of its database.
    watch_memory: float
    instance_memory: float
    instance_disk: float
    #: What a facade's process needs to take in one change.
    facade_cpu: float


@dataclass(frozen=True, slots=True)
class ConsulCosts:
    """A Consul server and, in a process of its own, the agent that is asked."""

    #: One heartbeat without news: every other one stays at the agent, the others look.
    beat_leader_cpu: float
    beat_bytes: float
    #: One instance registered and deregistered again, with all that its sidecar asks on the way.
    life_leader_cpu: float
    life_bytes: float
    #: One changed health, as it reaches the server, without anybody who asks for it.
    change_leader_cpu: float
    #: An answer without entries, then each entry of a list of services …
    answer_leader_cpu: float
    service_leader_cpu: float
    service_agent_cpu: float
    service_bytes: float
    #: … and of a list of records.
    record_leader_cpu: float
    record_agent_cpu: float
    record_bytes: float
    #: From a change to a bare query of a short list, in seconds.
    delay: float
    instance_memory: float
    query_memory: float
    #: What a facade's process needs for one entry of a list of services, or of records.
    facade_service_cpu: float
    facade_record_cpu: float


@dataclass(frozen=True, slots=True)
class StreamCosts:
    """A facade whose events another facade reads."""

    #: One change delivered to one reader, and its bytes.
    delivery_cpu: float
    delivery_bytes: float
    #: From a change in a facade's catalog to a reader's, in seconds, with one reader.
    delay: float


@dataclass(frozen=True, slots=True)
class Costs:
    """All of it, with the machine's facts beside it."""

    machine: Mapping[str, Any]
    etcd: EtcdCosts
    consul: ConsulCosts
    stream: StreamCosts
    #: What a facade has of memory for one instance, in bytes.
    facade_memory: float

    @classmethod
    def load(cls, file: Path = MEASURED) -> Costs:
        """Reads what :meth:`save` wrote. Raises :class:`OSError` or :class:`ValueError`."""
        return TypeAdapter(cls).validate_json(file.read_bytes())

    def save(self, file: Path) -> None:
        """Writes it as JSON."""
        file.write_bytes(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2) + b"\n")
