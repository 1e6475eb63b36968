"""What of a client's messages a server gets to read that its caller may call in part only.

Rights are judged by the body, and by what any server could take the body to say: one that has a
member twice, or in other letters (Go's decoder knows no upper case), is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from mcp_discovery.facade.access.calling import PartialAccess
from mcp_discovery.facade.access.rights import Part
from mcp_discovery.facade.gateway.messages import MOST_MESSAGES
from mcp_discovery.mcp_messages import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    RESOURCE_NOT_FOUND,
    Id,
    JsonRpcError,
    check_routing,
    encoded,
    failure,
    is_modern,
)

#: Method → the parameter that names what is asked for, and what that is.
_NAMED: Final[Mapping[str, tuple[str, Part]]] = {
    "tools/call": ("name", "tools"),
    "prompts/get": ("name", "prompts"),
    "resources/read": ("uri", "resources"),
    "resources/subscribe": ("uri", "resources"),
    "resources/unsubscribe": ("uri", "resources"),
    "resources/directory/read": ("uri", "resources"),
    "skills/get": ("uri", "skills"),
}
#: Type of a completion's reference → its member that names what is completed, and what that is.
_REFERENCES: Final[Mapping[str, tuple[str, Part]]] = {
    "ref/prompt": ("name", "prompts"),
    "ref/resource": ("uri", "resources"),
}
_UNKNOWN: Final[Mapping[Part, str]] = {
    "tools": "Unknown tool",
    "prompts": "Unknown prompt",
    "resources": "Resource not found",
    "skills": "Unknown skill",
}
#: Methods that are for no single part of a server. Others, such as those that list what all callers
#: had done (``tasks/list``), do not exist for who may call it in part only.
_GENERAL: Final = frozenset(
    (
        *("initialize", "server/discover", "ping", "logging/setLevel", "tools/list"),
        *("resources/list", "resources/templates/list", "prompts/list", "skills/list"),
    )
)
#: The members that decide; in other letters they are refused.
_DECIDING: Final = frozenset(
    (
        *("jsonrpc", "id", "method", "params", "result", "error"),
        *("name", "uri", "ref", "type", "notifications", "resourcesubscriptions"),
    )
)
_EXACT: Final = frozenset((*_DECIDING, "resourceSubscriptions"))
#: What a stream may be asked for (``subscriptions/listen``).
_TOLD_OF: Final = frozenset(
    (
        *("toolsListChanged", "promptsListChanged", "resourcesListChanged"),
        "resourceSubscriptions",
    )
)
#: What is asked for by its URI.
_BY_URI: Final = frozenset({"resources", "skills"})
#: The URI of a skill, in which the last segment but one is its name (SEP-2640), with nothing that a
#: server may take for the end of its path.
_SKILL: Final = re.compile(r"[^?#%\\\x00-\x20]*/([^/?#%\\\x00-\x20]+)/SKILL\.md")
#: The longest name or URI, in characters, and how often one may be percent-encoded and once more.
_LONGEST_NAME, _MOST_DECODINGS = 8192, 4


def refusal(
    request: web.Request, body: bytes, access: PartialAccess
) -> tuple[int, bytes | None] | None:
    """What to answer in place of the server, status and body; ``None``: it may read ``body``.

    Raises :class:`JsonRpcError` for a body of which it cannot be said what servers read in it.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        detail = "Unsupported media type: send the body without a Content-Encoding"
        raise JsonRpcError(INVALID_REQUEST, detail, status=415)
    value = _parsed(body)
    modern = is_modern(request)
    messages = value if isinstance(value, list) else [value]
    if not 0 < len(messages) <= MOST_MESSAGES:
        detail = f"Invalid request: a batch has 1 to {MOST_MESSAGES} messages"
        raise JsonRpcError(INVALID_REQUEST, detail, status=400)
    faults = [_fault(each, access, modern=modern) for each in messages]
    if not isinstance(value, list):
        check_routing(request, value.get("method"), value.get("params") or {})
    if all(each is None for each in faults):
        return None
    answers = [
        failure(id, fault or _NOT_SENT)
        for message, fault in zip(messages, faults, strict=True)
        if "method" in message and (id := _id_of(message)) is not None
    ]
    if not answers:  # nobody is answered to a notification
        return 202, None
    if isinstance(value, list):
        return 200, encoded(answers)
    assert faults[0] is not None
    return faults[0].modern_status if modern else 200, encoded(answers[0])


_NOT_SENT: Final = JsonRpcError(
    INVALID_REQUEST, "not sent: another message of this batch is refused; send this one by itself"
)


def _parsed(body: bytes) -> Any:
    try:
        value = json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        raise JsonRpcError(
            PARSE_ERROR, f"Parse error: the body is not JSON ({str(error)[:200]})", status=400
        ) from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a member twice")
    return found


def _no_json(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _fault(message: Any, access: PartialAccess, *, modern: bool) -> JsonRpcError | None:
    """Why a server may not read ``message``; raises :class:`JsonRpcError` where it is none."""
    _require(isinstance(message, dict) and _has_exact_members(message))
    method, params = message.get("method"), message.get("params")
    if "method" not in message:
        return None  # a response to a request of the server
    _require(isinstance(method, str) and isinstance(params, dict | None))
    params = params or {}
    _require(_has_exact_members(params))
    if (named := _NAMED.get(method)) is not None:
        key, part = named
        return _unless_allowed(access, part, params.get(key), modern=modern)
    if method == "completion/complete":
        ref = params.get("ref")
        _require(isinstance(ref, dict) and _has_exact_members(ref))
        assert isinstance(ref, dict)
        reference = _REFERENCES.get(str(ref.get("type")))
        if reference is None:
            return JsonRpcError(INVALID_PARAMS, "Unknown kind of reference")
        return _unless_allowed(access, reference[1], ref.get(reference[0]), modern=modern)
    if method == "subscriptions/listen":
        wanted = params.get("notifications")
        _require(isinstance(wanted, dict) and _has_exact_members(wanted))
        assert isinstance(wanted, dict)
        if not wanted.keys() <= _TOLD_OF:
            return JsonRpcError(INVALID_PARAMS, "Unknown kind of notification")
        uris = wanted.get("resourceSubscriptions") or []
        _require(isinstance(uris, list))
        return _first(_unless_allowed(access, "resources", uri, modern=modern) for uri in uris)
    if method in _GENERAL or method.startswith("notifications/"):
        return None
    return JsonRpcError(METHOD_NOT_FOUND, f"Method not found: {method[:100]!r}")


def _unless_allowed(
    access: PartialAccess, part: Part, name: Any, *, modern: bool
) -> JsonRpcError | None:
    _require(isinstance(name, str))
    if allows(access, part, name):
        return None
    code = RESOURCE_NOT_FOUND if part == "resources" and not modern else INVALID_PARAMS
    shown = name[:200].encode(errors="replace").decode()  # half a character is none
    return JsonRpcError(code, f"{_UNKNOWN[part]}: {shown}")


def allows(access: PartialAccess, part: Part, name: str) -> bool:
    """Whether ``name`` is allowed as it is written and as a server may understand it."""
    if len(name) > _LONGEST_NAME:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:  # half of a character, which some servers drop
        return False
    if part in _BY_URI and not _is_plain(name):
        return False
    return _grants(access, part, name)


def _grants(access: PartialAccess, part: Part, name: str) -> bool:
    skill = _SKILL.fullmatch(name) if part == "skills" else None
    return access.allows(part, name) or (skill is not None and access.allows(part, skill[1]))


def _is_plain(uri: str) -> bool:
    """Whether no server comes to another resource by resolving ``.`` and ``..`` in ``uri``."""
    for _ in range(_MOST_DECODINGS):
        if (plain := unquote(uri)) == uri:
            break
        uri = plain
    else:
        return False
    return {".", ".."}.isdisjoint(uri.replace("\\", "/").split("/"))


def _has_exact_members(value: Mapping[str, Any]) -> bool:
    return all(key in _EXACT or key.casefold() not in _DECIDING for key in value)


def _id_of(message: Mapping[str, Any]) -> Id | None:
    id = message.get("id")
    return id if isinstance(id, str | int) and not isinstance(id, bool) else None


def _require(fit: bool) -> None:
    if not fit:
        raise JsonRpcError(
            INVALID_REQUEST,
            "Invalid request: the body must be JSON-RPC 2.0 messages of MCP, with the members that "
            "their methods need",
            status=400,
        )


def _first(faults: Iterable[JsonRpcError | None]) -> JsonRpcError | None:
    return next((each for each in faults if each is not None), None)


#: What lists of a server's answers hold: member of the result → part, and the key with the name.
_LISTS: Final[Mapping[str, tuple[Part, str]]] = {
    "tools": ("tools", "name"),
    "prompts": ("prompts", "name"),
    "resources": ("resources", "uri"),
    "resourceTemplates": ("resources", "uriTemplate"),
    "skills": ("skills", "uri"),
}
_UPDATED: Final = "notifications/resources/updated"


def filtered(message: Any, access: PartialAccess) -> Any:
    """What of a server's ``message``, or batch, the caller may read: the very same object where
    that is all of it, ``None`` where it is nothing."""
    if isinstance(message, list):
        found = [each for each in (filtered(one, access) for one in message) if each is not None]
        same = len(found) == len(message) and all(map(_is, found, message))
        return message if same else found
    if not isinstance(message, dict):
        return message
    if message.get("method") == _UPDATED:
        params = message.get("params")
        uri = params.get("uri") if isinstance(params, dict) else None
        return message if isinstance(uri, str) and allows(access, "resources", uri) else None
    result = message.get("result")
    if not isinstance(result, dict):
        return message
    changed: dict[str, Any] = {
        name: kept
        for name, (part, key) in _LISTS.items()
        if isinstance(items := result.get(name), list)
        and len(kept := _kept(items, part, key, access)) != len(items)
    }
    if result.get("cacheScope") == "public":  # to all who may read all of it, not to this caller's
        changed["cacheScope"] = "private"
    if "capabilities" in result:  # what the server says of itself, to ``initialize`` for one
        result = {name: value for name, value in result.items() if name != "instructions"}
        changed["capabilities"] = _without_tasks(result["capabilities"])
    return message | {"result": result | changed} if changed else message


def _without_tasks(capabilities: Any) -> Any:
    """Capabilities without those whose methods do not exist for who may call a server in part."""
    if not isinstance(capabilities, dict):
        return capabilities
    kept = {name: value for name, value in capabilities.items() if name != "tasks"}
    if isinstance(more := kept.get("extensions"), dict):
        kept["extensions"] = {key: value for key, value in more.items() if "task" not in key}
    return kept


def _kept(items: Sequence[Any], part: Part, key: str, access: PartialAccess) -> list[Any]:
    return [
        each
        for each in items
        if isinstance(each, dict)
        and isinstance(name := each.get(key), str)
        and _grants(access, part, name)
    ]


def _is(one: object, other: object) -> bool:
    return one is other
