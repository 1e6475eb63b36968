"""What an untrusted writer puts into a store, past every check of ours."""

from __future__ import annotations

from typing import Any

import orjson

_LEASE = {"holder": "h", "host": "evil", "by": "sidecar", "ttl": 3600, "reapAfter": 7200}
_MOMENT = "2026-01-01T00:00:00.000Z"
#: The most that Consul takes as one value.
MOST = 500_000


def registration(id: str, **fields: Any) -> bytes:
    """A registration of ``evil``, with more ``fields`` or others."""
    fine = {"id": id, "name": "evil", "endpoint": {"url": "http://127.0.0.1:9/"}, "lease": _LEASE}
    return orjson.dumps(fine | fields)


def _deep(opening: bytes, closing: bytes, levels: int) -> bytes:
    return opening * levels + b"1" + closing * levels


def _with(id: str, field: bytes, value: bytes) -> bytes:
    return registration(id)[:-1] + b',"%b":%b}' % (field, value)


def unreadable() -> dict[str, bytes]:
    """Id → a value that is no registration, each in another way."""
    return {
        "deep-list": _deep(b"[", b"]", 200_000),
        "deep-object": _deep(b'{"a":', b"}", 60_000),
        "deep-field": _with("deep-field", b"x", _deep(b"[", b"]", 1000)),
        # Without an id the record gets one from its command line.
        "deep-command": b'{"name":"evil","lease":%b,"endpoint":{"transport":"stdio","args":%b}}'
        % (orjson.dumps(_LEASE), _deep(b"[", b"]", 900)),
        "huge-string": registration("huge-string", description="x" * 450_000),
        "no-utf8": registration("no-utf8")[:-1] + b',"x":"\xff\xfe\xc3("}',
        "surrogate": registration("surrogate")[:-1] + b',"x":"\\ud800"}',
        "wrong-types": registration("wrong-types", tags={"a": 1}, weight="heavy", metadata=[]),
        "many-tags": registration("many-tags", tags=[f"t{number}" for number in range(50_000)]),
        "many-faults": registration("many-faults", capabilities={"tools": [1] * 200_000}),
        "endless-number": registration("endless-number")[:-1] + b',"weight":%b}' % (b"9" * 100_000),
        "no-lease": registration("no-lease", lease={"holder": ["h"], "ttl": "for ever"}),
        "another": registration("somebody-else"),
        "secret": registration("secret", metadata={"password": "hunter22"}),
    }


def readable(facade: str) -> dict[str, bytes]:
    """Id → a registration that has nothing against it but what it is for."""
    names = ("__proto__", "constructor", "prototype", "__class__", "toString", "hasOwnProperty")
    return {
        "itself": registration(
            "itself", endpoint={"url": f"{facade}/mcp"}, healthUrl=f"{facade}/health"
        ),
        "prototype": registration(
            "prototype",
            metadata=dict.fromkeys(names, "x"),
            **{n: {"polluted": True} for n in names},
        ),
        "beginnings": registration("beginnings", x="-eyJaaaaaaaa" * 20_000),
        "many-tools": registration(
            "many-tools", capabilities={"tools": [f"{n:x}" for n in range(25_000)]}
        ),
        "combining": registration("combining", description="a" + "\u0301\u0316" * 2000),
        "claims": registration("claims", status="healthy", load="much", revision=-1, servers=[]),
        "markup": registration("markup", description="</script><script>alert(1)</script>\u202e\0"),
    }


def health(reason: str = "answers MCP") -> bytes:
    """The value of a live key in etcd."""
    told = {"status": "healthy", "reason": reason, "since": _MOMENT, "lastSeen": _MOMENT}
    return orjson.dumps(told | {"holder": "h", "name": "evil"})


def bad_health() -> dict[str, bytes]:
    """Id → a live key's value that is none."""
    return {
        "deep-reason": health("?").replace(b'"?"', _deep(b"[", b"]", 1010)),
        "deep-health": _deep(b"[", b"]", 100_000),
        "no-moment": health().replace(_MOMENT.encode(), b"yesterday"),
        "early-moment": health().replace(_MOMENT.encode(), b"0001-01-01T00:00:00+23:59"),
        "huge-reason": health("x" * 400_000),
        "no-health": b"\xff",
    }


def checks(id: str, output: str) -> list[dict[str, Any]]:
    """The two checks of a Consul service, as its registrant would have them."""
    return [
        {
            "CheckID": f"mcp:{id}",
            "Name": "beats",
            "Status": "passing",
            "Notes": "held by h",
            "Output": "heartbeats of h arrive",
            "ServiceID": id,
        },
        {
            "CheckID": f"mcp-health:{id}",
            "Name": "health",
            "Status": "passing",
            "Output": output,
            "ServiceID": id,
        },
    ]


def output(since: str = _MOMENT) -> str:
    """The output of a health check."""
    told = {"status": "healthy", "since": since, "holder": "h"}
    return f"answers MCP\n{orjson.dumps(told).decode()}"


def bad_outputs() -> dict[str, str]:
    """Id → the output of a health check that says nothing."""
    return {
        "deep-output": "x\n" + "[" * 100_000,
        "null-output": "x\nnull",
        "list-output": "x\n[1]",
        "typed-output": 'x\n{"status":["healthy"],"since":7,"holder":{}}',
        "huge-output": "x" * 300_000 + "\n" + output(),
        "moment-output": output("9999-12-31T23:59:59-23:59"),
        "load-output": output()[:-1] + ',"load":{"active":1e999,"capacity":"many","rate":-1}}',
    }
