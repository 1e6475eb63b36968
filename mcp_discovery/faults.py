"""What pydantic finds wrong with a value, in the words of this project."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

#: Kinds of faults, and what is said of them; the bounds are pydantic's ``ctx``.
_WORDS = {
    "missing": "is missing, and has to be given",
    "too_long": "has more than {max_length} items; give fewer",
    "string_too_long": "is longer than {max_length} characters; shorten it",
    "value_error": "{error}",
    "greater_than_equal": "has to be {ge} or more",
    "less_than_equal": "has to be {le} or less",
    "literal_error": "is not one of {expected}",
    "extra_forbidden": "is not known",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "is no whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "is no number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "is neither true nor false"),
    **dict.fromkeys(("list_type", "tuple_type"), "is no list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type"), "is no object"),
    "string_type": "is no text",
}


def fault_text(fault: ErrorDetails) -> str:
    """What is wrong, to follow the name of the value; a kind that is not known is in pydantic's own
    words."""
    if (words := _WORDS.get(fault["type"])) is None:
        return fault["msg"][:1].lower() + fault["msg"][1:]
    return words.format_map(fault.get("ctx", {}))
