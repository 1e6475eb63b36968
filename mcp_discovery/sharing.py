"""What instances of one server say alike is kept once: a list of very many is mostly that."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from mcp_discovery.record import Auth, Capabilities, Protocol, Record

#: The parts of a record that have models of their own and are mostly those of other instances.
_PARTS: Mapping[str, type[BaseModel]] = {
    "capabilities": Capabilities,
    "protocol": Protocol,
    "auth": Auth,
}
#: Texts that are mostly those of other instances.
_TEXTS = ("name", "registryName", "title", "description", "version", "websiteUrl", "zone", "owner")
#: How many different parts are remembered: instances of one server come close together.
_REMEMBERED = 8192


def share(content: dict[str, Any]) -> dict[str, Any]:
    """``content``, a record as JSON spells it, with parts that were seen before in the place of
    equal ones, checked already. What is wrong with it stays as it is."""
    shared = {**content}
    for name in _TEXTS:
        if isinstance(content.get(name), str):
            shared[name] = sys.intern(content[name])
    for name in _PARTS.keys() & content.keys():
        # What is wrong is told with its place in the whole, when that is checked.
        with suppress(ValidationError, TypeError):
            shared[name] = _part(name, orjson.dumps(content[name]))
    tags = content.get("tags")
    if isinstance(tags, list):
        shared["tags"] = [sys.intern(tag) if type(tag) is str else tag for tag in tags]
    return shared


@lru_cache(_REMEMBERED)
def _part(name: str, spelled: bytes) -> BaseModel:
    return _PARTS[name].model_validate(orjson.loads(spelled))


def slim(record: Record) -> Record:
    """``record`` without what pydantic keeps beside the fields of each model, or with that of
    another record: which fields were given (never asked here) and unknown ones, of which there are
    none. That is a third of what a record takes."""
    for model in (record, record.endpoint):
        given = _given(frozenset(model.model_fields_set))
        object.__setattr__(model, "__pydantic_fields_set__", given)
        if not model.model_extra:
            object.__setattr__(model, "__pydantic_extra__", _NO_EXTRA)
    return record


#: Stands for no unknown fields in very many models, none of which can be changed.
_NO_EXTRA: dict[str, Any] = {}


@lru_cache(_REMEMBERED)
def _given(names: frozenset[str]) -> set[str]:
    return set(names)
