"""Parses records so that instances of one server share the parts that are equal for all of them.

In a list of many instances that saves most of the time and memory: see :func:`record_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
from pydantic import ValidationError

from mcp_discovery.document import compact
from mcp_discovery.errors import InvalidRecordError
from mcp_discovery.record import Particulars, Record

#: The names of the fields that differ from instance to instance, as in JSON and as in Python.
_OWN = frozenset(
    each for name, field in Particulars.model_fields.items() for each in (name, field.alias or name)
)
#: How many shared parts are cached; and the size in bytes up to which a record's part is, so that
#: the cache stays below 64 MiB.
_CACHED = 8192
_MAX_CACHED_BYTES = 8192


def record_of(content: Mapping[str, Any], size: int) -> Record:
    """The record in ``content``, which is ``size`` bytes as JSON, as :meth:`Record.parse` reads it.

    Fields other than :class:`Particulars` are parsed, checked and kept once for all records in
    which they are equal. Raises what :meth:`Record.parse` raises.
    """
    return _without_model_overhead(_from_shared(content, size) or Record.parse(content))


def _from_shared(content: Mapping[str, Any], size: int) -> Record | None:
    """The record made from a cached part; ``None`` where it has to be parsed as a whole."""
    if size > _MAX_CACHED_BYTES or not content.get("id"):
        return None
    shared = {name: value for name, value in content.items() if name not in _OWN}
    try:
        template = _template(compact(orjson.dumps(shared)))
    except TypeError:  # nested too deep for JSON
        return None
    if template is None:
        return None
    try:
        own = Particulars.model_validate({name: content[name] for name in content.keys() & _OWN})
    except ValidationError:
        return None
    if own.model_extra or own.endpoint.model_extra:
        return None
    own.check()
    return template.model_copy(update=vars(own))


@lru_cache(_CACHED)
def _template(shared: bytes) -> Record | None:
    """A record with these fields and placeholder particulars; ``None`` where it is invalid."""
    placeholders = {"id": "nobody", "endpoint": {"url": "http://nobody.invalid"}}
    try:
        return _without_model_overhead(Record.parse(orjson.loads(shared) | placeholders))
    except InvalidRecordError:
        return None


def _without_model_overhead(record: Record) -> Record:
    """``record`` with pydantic's bookkeeping shared among records: which fields were set (never
    read here), and the empty dict of unknown fields. That is a third of a record's memory."""
    for model in (record, record.endpoint):
        given = _fields_set(frozenset(model.model_fields_set))
        object.__setattr__(model, "__pydantic_fields_set__", given)
        if not model.model_extra:
            object.__setattr__(model, "__pydantic_extra__", _NO_EXTRA)
    return record


#: Shared by all models without unknown fields; models are frozen, so nothing writes to it.
_NO_EXTRA: dict[str, Any] = {}


@lru_cache(_CACHED)
def _fields_set(names: frozenset[str]) -> set[str]:
    return set(names)
