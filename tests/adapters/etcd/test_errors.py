"""etcd's refusals, as versions 3.4 and 3.5 spell them, mean the same."""

import pytest

from mcp_discovery.adapters.etcd.errors import (
    Elsewhere,
    LeaseNotFound,
    Refused,
    RevisionGone,
    TokenRejected,
    from_answer,
    from_object,
    refusal,
)
from mcp_discovery.errors import StoreDenied

STORE = "etcd://h"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, b'{"code":7,"message":"etcdserver: permission denied"}', StoreDenied),
        (
            403,
            b'{"error":"etcdserver: permission denied","message":"etcdserver: permission denied",'
            b'"code":7}',
            StoreDenied,
        ),
        (401, b'{"code":16,"message":"etcdserver: invalid auth token"}', TokenRejected),
        (400, b'{"code":3,"message":"etcdserver: user name is empty"}', TokenRejected),
        (400, b'{"code":3,"message":"etcdserver: revision of auth store is old"}', TokenRejected),
        (
            400,
            b'{"error":"etcdserver: authentication failed, invalid user ID or password","code":3}',
            StoreDenied,
        ),
        (404, b'{"code":5,"message":"etcdserver: requested lease not found"}', LeaseNotFound),
        (
            400,
            b'{"code":11,"message":"etcdserver: mvcc: required revision has been compacted"}',
            RevisionGone,
        ),
        (
            400,
            b'{"code":11,"message":"etcdserver: mvcc: required revision is a future revision"}',
            RevisionGone,
        ),
        (429, b'{"code":8,"message":"etcdserver: mvcc: database space exceeded"}', Refused),
        (503, b'{"code":14,"message":"etcdserver: no leader"}', Elsewhere),
        (503, b'{"code":14,"message":"etcdserver: request timed out"}', Elsewhere),
        (503, b"upstream connect error", Elsewhere),
        (404, b'{"code":5,"message":"Not Found"}', Refused),
        (404, b"<html>", Refused),
        (200, b"[]", Refused),
        (400, b"Client sent an HTTP request to an HTTPS server.\n", Refused),
    ],
)
def test_answers(status: int, body: bytes, kind: type[Exception]) -> None:
    assert type(from_answer(STORE, status, body)) is kind


@pytest.mark.parametrize("code", ["code", "grpc_code"])
def test_stream_errors(code: str) -> None:
    error = from_object(STORE, {"error": {code: 14, "message": "etcdserver: no leader"}})
    assert type(error) is Elsewhere


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("rpc error: code = PermissionDenied desc = etcdserver: permission denied", StoreDenied),
        ("rpc error: code = Unauthenticated desc = etcdserver: invalid auth token", TokenRejected),
        ("rpc error: code = Unavailable desc = etcdserver: no leader", Elsewhere),
        ("rpc error: code = Unavailable desc = something new", Elsewhere),
        ("etcdserver: mvcc: required revision has been compacted", RevisionGone),
        ("something unheard of", Refused),
    ],
)
def test_reasons_of_a_cancelled_watch(reason: str, kind: type[Exception]) -> None:
    assert type(refusal(STORE, reason)) is kind
