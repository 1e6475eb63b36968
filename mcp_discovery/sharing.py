"""What instances of one server say alike is read and kept once: most of a long list is that."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
from pydantic import ValidationError

from mcp_discovery.compact import compact
from mcp_discovery.errors import InvalidRecordError
from mcp_discovery.record import Particulars, Record

#: The names of what is an instance's own, in JSON and here: both are read.
_OWN = frozenset(
    each for name, field in Particulars.model_fields.items() for each in (name, field.alias or name)
)
#: Of so many servers it is remembered what their instances say alike: they come close together. And
#: the most bytes that a record of theirs may have.
_REMEMBERED = 8192
_SHORT = 8192


def record_of(content: Mapping[str, Any], size: int) -> Record:
    """The record that ``content`` spells, JSON of ``size`` bytes, as :meth:`Record.parse` reads it.

    It shares with others what they say alike, which is read and checked for the first of them.
    """
    return _slim(_shared(content, size) or Record.parse(content))


def _shared(content: Mapping[str, Any], size: int) -> Record | None:
    """``None`` where the whole has to be read to tell what it is."""
    if size > _SHORT or not content.get("id"):
        return None
    alike = {name: value for name, value in content.items() if name not in _OWN}
    try:
        known = _known(compact(orjson.dumps(alike)))
    except TypeError:  # nested too deep for JSON
        return None
    if known is None:
        return None
    try:
        own = Particulars.model_validate({name: content[name] for name in content.keys() & _OWN})
    except ValidationError:
        return None
    if own.model_extra or own.endpoint.model_extra:
        return None
    own.check()
    return known.model_copy(update=vars(own))


@lru_cache(_REMEMBERED)
def _known(alike: bytes) -> Record | None:
    """A record of these fields, with the particulars of nobody; ``None`` where it is unfit."""
    nobody = {"id": "nobody", "endpoint": {"url": "http://nobody.invalid"}}
    try:
        return _slim(Record.parse(orjson.loads(alike) | nobody))
    except InvalidRecordError:
        return None


def _slim(record: Record) -> Record:
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
