"""Output to the terminal, without control characters that come from others."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

# C0 but tab and line feed, DEL, C1, and what turns the direction of text around or breaks lines:
# with these, a name can forge what stands beside it, or drive the terminal (CWE-150). A carriage
# return that ends a line does neither.
_UNSAFE = re.compile(
    "(?!\r\n)[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff]"
)
#: The same in a JSON text, where orjson has escaped C0 already.
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def clean(text: object) -> str:
    """``text`` with every unsafe character escaped (``\\x1b``); tabs and line feeds stay."""
    return _UNSAFE.sub(_escaped, str(text))


def line(text: object) -> str:
    """``text`` on one line and clean: white space of every kind becomes one blank."""
    return clean(" ".join(str(text).split()))


def say(text: object = "", *, err: bool = False) -> None:
    """Prints ``text``, cleaned, and flushes; raises :class:`BrokenPipeError` as ``print`` does."""
    print(clean(text), file=sys.stderr if err else sys.stdout, flush=True)


def say_json(value: Any, *, indent: bool = False) -> None:
    """Prints ``value`` as JSON, on one line or indented."""
    print(json_text(value, indent=indent), flush=True)  # noqa: T201


def json_text(value: Any, *, indent: bool = False) -> str:
    """``value`` as JSON that means the same and is safe to look at."""
    import orjson

    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else None).decode()
    except orjson.JSONEncodeError:  # an integer of more than 64 bits
        text = json.dumps(value, indent=2 if indent else None)
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def escape_unencodable() -> None:
    """Lets both streams escape characters that their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Discards what is still buffered for standard output after a broken pipe."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
