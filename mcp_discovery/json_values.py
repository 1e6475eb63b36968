"""How many values a JSON text holds, counted before any of them takes memory.

Three bytes, ``[],``, become a list of 72: a text of a few hundred kilobytes may take a hundred
times its size once it is parsed. Its depth needs no counting: orjson parses 1024 levels and writes
254.
"""

from __future__ import annotations

#: What a value takes in memory beside its text, in bytes: an empty list or object, or a number.
BYTES_PER_VALUE = 72
#: So many bytes are counted before it is asked whether there are too many already.
_CHUNK = 256 * 2**10


def count_values(data: bytes | str, most: int) -> int:
    """The number of values in ``data``, an upper bound of it that is not above ``most``, or, where
    there are more, some number above ``most``.

    Costs a fraction of parsing. Of what is no JSON it counts what can be parsed before the fault.
    """
    if isinstance(data, str):
        data = data.encode(errors="replace")
    found = _separated(data, most)
    if found <= most:
        return found
    # Some of them may stand in texts. Outside of texts there is no backslash, and each text is a
    # value or the name of one.
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    quotes = 0
    for start in range(0, len(plain), _CHUNK):
        quotes += plain.count(b'"', start, start + _CHUNK)
        if quotes > 4 * most:
            return most + 1
    return _separated(b"0".join(plain.split(b'"')[::2]), most)


def _separated(data: bytes, most: int) -> int:
    """Each value but the first stands behind a comma, or is the first in a list or object."""
    found = 1
    for start in range(0, len(data), _CHUNK):
        end = start + _CHUNK
        begun = data.count(b"[", start, end) + data.count(b"{", start, end)
        empty = data.count(b"[]", start, end) + data.count(b"{}", start, end)
        found += data.count(b",", start, end) + begun - empty
        if found > most:
            break
    return found
