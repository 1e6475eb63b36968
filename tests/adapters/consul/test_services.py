"""Answers about services that are read piece by piece."""

from __future__ import annotations

from typing import Any

import orjson

from mcp_discovery.adapters.consul import checks
from mcp_discovery.adapters.consul.checks import READ, ServicePlace
from mcp_discovery.adapters.consul.services import ServiceListParser
from mcp_discovery.health import Health, Status, utcnow


def entry(id: str, output: str = "fine", **service: Any) -> dict[str, Any]:
    checks = [{"Node": "n", "CheckID": f"mcp:{id}", "Output": output, "ModifyIndex": 7}]
    return {"Node": {"Node": "n"}, "Service": {"ID": id} | service, "Checks": checks}


def body(*entries: dict[str, Any]) -> bytes:
    return orjson.dumps(entries)


def whole(answer: bytes) -> dict[ServicePlace, Any]:
    return {
        ServicePlace(each["Node"]["Node"], each["Service"]["ID"]): [
            {name: value for name, value in check.items() if name in READ}
            for check in each["Checks"]
        ]
        for each in orjson.loads(answer)
    }


def test_what_is_read_is_what_the_answer_says() -> None:
    pieces = ServiceListParser()
    answers = [
        body(entry("a"), entry("b"), entry("c")),
        body(entry("a"), entry("b", "worse"), entry("c")),
        body(entry("c")),
        body(entry("b", 'a text with ,{"Node":{ in it'), entry("c")),
        body(entry("a"), entry("b")) + b"\n",
    ]
    for answer in answers:
        assert pieces.read(answer) == whole(answer)


def test_what_has_not_changed_is_the_same_object() -> None:
    pieces = ServiceListParser()
    first = pieces.read(body(entry("a"), entry("b")))
    second = pieces.read(body(entry("a"), entry("b", "worse")))
    assert first is not None and second is not None
    assert second[ServicePlace("n", "a")] is first[ServicePlace("n", "a")]
    assert second[ServicePlace("n", "b")] is not first[ServicePlace("n", "b")]


def test_an_answer_that_cannot_be_cut_is_left_to_others() -> None:
    pieces = ServiceListParser()
    nested = entry("a", Proxy={"Config": [{"Node": {}}, {"Node": {}}]})
    for answer in (b"[]", b"null", b"nonsense", body(nested), body(entry("b"))[:-9], b'[{"Node":{'):
        assert pieces.read(answer) is None
    assert pieces.read(body(entry("a"))) == whole(body(entry("a")))


def test_what_is_left_out_of_checks_is_nothing_that_they_say() -> None:
    holder, id = "abc", "a"
    said = checks.to_check(Health(Status.HEALTHY, "fine", utcnow()), None, holder)
    told = [
        (checks.heartbeat_check(id), checks.PASSING, checks.heartbeat_output(holder)),
        (checks.health_check(id), *said),
        ("serfHealth", checks.CRITICAL, "Agent not live or unreachable"),
        ("disk", checks.WARNING, "90 % full"),
        (f"_service_maintenance:{id}", checks.CRITICAL, ""),
    ]
    whole_checks = [
        {
            "Node": "n",
            "CheckID": name,
            "Name": f"the {name}",
            "Status": status,
            "Notes": checks.holder_notes(holder) if name == checks.heartbeat_check(id) else "why",
            "Output": output,
            "ServiceID": id,
            "ServiceName": "mcp",
            "ServiceTags": ["catalog"],
            "Type": "ttl",
            "Definition": {},
            "CreateIndex": 3,
            "ModifyIndex": 5 + number,
        }
        for number, (name, status, output) in enumerate(told)
    ]
    place = ServicePlace("n", id)
    read = ServiceListParser().read(body(entry(id) | {"Checks": whole_checks}))
    assert read is not None
    presence = checks.read_presence(place, read[place])
    assert presence == checks.read_presence(place, whole_checks)
    assert presence.started and presence.unreachable and presence.server == "catalog"
    assert presence.index == 6 and len(presence.others) == 2
