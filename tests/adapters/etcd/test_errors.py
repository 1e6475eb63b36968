"""etcd's refusals, as versions 3.4 and 3.5 spell them, mean the same."""

import pytest

from mcp_discovery.adapters.etcd.api import EtcdGateway
from mcp_discovery.adapters.etcd.errors import (
    LeaseNotFoundError,
    MemberUnavailableError,
    PermissionDeniedError,
    RequestRefusedError,
    RevisionGoneError,
    TokenRejectedError,
    from_object,
    from_response,
    refusal,
)
from mcp_discovery.adapters.etcd.url import parse_url
from mcp_discovery.adapters.http import StoreResponse
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.errors import StoreDeniedError, StoreFault, StoreUnavailableError

STORE = "etcd://h"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, b'{"code":7,"message":"etcdserver: permission denied"}', PermissionDeniedError),
        (
            403,
            b'{"error":"etcdserver: permission denied","message":"etcdserver: permission denied",'
            b'"code":7}',
            PermissionDeniedError,
        ),
        (401, b'{"code":16,"message":"etcdserver: invalid auth token"}', TokenRejectedError),
        (400, b'{"code":3,"message":"etcdserver: user name is empty"}', TokenRejectedError),
        (
            400,
            b'{"code":3,"message":"etcdserver: revision of auth store is old"}',
            TokenRejectedError,
        ),
        (
            400,
            b'{"error":"etcdserver: authentication failed, invalid user ID or password","code":3}',
            StoreDeniedError,
        ),
        (404, b'{"code":5,"message":"etcdserver: requested lease not found"}', LeaseNotFoundError),
        (
            400,
            b'{"code":11,"message":"etcdserver: mvcc: required revision has been compacted"}',
            RevisionGoneError,
        ),
        (
            400,
            b'{"code":11,"message":"etcdserver: mvcc: required revision is a future revision"}',
            RevisionGoneError,
        ),
        (
            429,
            b'{"code":8,"message":"etcdserver: mvcc: database space exceeded"}',
            RequestRefusedError,
        ),
        (503, b'{"code":14,"message":"etcdserver: no leader"}', MemberUnavailableError),
        (503, b'{"code":14,"message":"etcdserver: request timed out"}', MemberUnavailableError),
        (429, b'{"code":8,"message":"etcdserver: too many requests"}', MemberUnavailableError),
        (
            429,
            b'{"code":8,"message":"grpc: received message larger than max (9 vs. 4)"}',
            RequestRefusedError,
        ),
        (429, b"slow down", MemberUnavailableError),
        (503, b"upstream connect error", MemberUnavailableError),
        (
            503,
            b'{"code":14,"message":"etcdserver: rpc not supported for learner"}',
            MemberUnavailableError,
        ),
        (
            400,
            b'{"code":9,"message":"etcdserver: rpc not supported for learner"}',
            MemberUnavailableError,
        ),
        (400, b'{"code":9,"message":"etcdserver: not capable"}', MemberUnavailableError),
        (500, b'{"code":13,"message":"a fault of its own"}', MemberUnavailableError),
        (400, b'{"code":3,"message":"etcdserver: key is not provided"}', RequestRefusedError),
        (404, b'{"code":5,"message":"Not Found"}', RequestRefusedError),
        (404, b"<html>", RequestRefusedError),
        (200, b"[]", RequestRefusedError),
    ],
)
def test_answers(status: int, body: bytes, kind: type[Exception]) -> None:
    assert type(from_response(STORE, StoreResponse(status, {}, body))) is kind


@pytest.mark.parametrize(
    "message",
    [
        # 3.5 and 3.6, whose certificate ran out; 3.4, and one without client use.
        r"connection error: desc = \"error reading server preface: remote error: tls: expired "
        r"certificate\"",
        r"all SubConns are in TransientFailure, latest connection error: connection error: desc = "
        r"\"transport: authentication handshake failed: remote error: tls: bad certificate\"",
    ],
)
def test_a_gateway_without_its_etcd(message: str) -> None:
    body = f'{{"code":14,"message":"{message}"}}'.encode()
    error = from_response(STORE, StoreResponse(503, {}, body))
    assert type(error) is MemberUnavailableError
    assert "server certificate has run out" in error.problem
    assert "restart the member, or wait" in error.problem


@pytest.mark.parametrize("code", ["code", "grpc_code"])
def test_stream_errors(code: str) -> None:
    error = from_object(STORE, {"error": {code: 14, "message": "etcdserver: no leader"}})
    assert type(error) is MemberUnavailableError


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
            PermissionDeniedError,
        ),
        (
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
            TokenRejectedError,
        ),
        ("rpc error: code = Unavailable desc = etcdserver: no leader", MemberUnavailableError),
        ("rpc error: code = Unavailable desc = something new", MemberUnavailableError),
        ("etcdserver: mvcc: required revision has been compacted", RevisionGoneError),
        ("something unheard of", RequestRefusedError),
    ],
)
def test_reasons_of_a_cancelled_watch(reason: str, kind: type[Exception]) -> None:
    assert type(refusal(STORE, reason)) is kind


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("etcdserver: no leader", StoreFault.NO_LEADER),
        ("etcdserver: leader changed", StoreFault.NO_LEADER),
        ("etcdserver: request timed out, possibly due to connection lost", StoreFault.NO_LEADER),
        ("etcdserver: request timed out", StoreFault.OVERLOADED),
        ("etcdserver: too many requests", StoreFault.OVERLOADED),
        ("etcdserver: rpc not supported for learner", StoreFault.LEARNER),
        ("etcdserver: mvcc: database space exceeded", StoreFault.OUT_OF_SPACE),
        ("etcdserver: mvcc: required revision has been compacted", StoreFault.COMPACTED),
        ("etcdserver: permission denied", StoreFault.FORBIDDEN),
        ("etcdserver: authentication failed, invalid user ID or password", StoreFault.DENIED),
        ("etcdserver: invalid auth token", StoreFault.DENIED),
        ("something new", StoreFault.OTHER),
    ],
)
def test_each_is_named_for_operators(message: str, fault: StoreFault) -> None:
    assert refusal(STORE, message).fault is fault


def test_of_several_endpoints_the_one_that_knows_names_the_cause() -> None:
    gateway = EtcdGateway(parse_url("etcd://a:1,b:2,c:3"), StoreOptions())
    refused = StoreUnavailableError(STORE, "connection refused", fault=StoreFault.UNREACHABLE)
    knows = refusal(STORE, "etcdserver: no leader")
    assert isinstance(knows, StoreUnavailableError)
    found = gateway._unavailable([("http://a:1", refused), ("http://b:2", knows)] * 2)
    assert found.fault is StoreFault.NO_LEADER
    assert found.problem.startswith("none of 3 endpoints could serve: b:2: this member has no")
    assert found.problem.endswith("; a:1: connection refused")
    assert gateway._unavailable([]).fault is StoreFault.SILENT
