"""Characters that cannot be seen, or that move others about, written out: ``\\u{202E}``."""

from __future__ import annotations

import json
import re

#: Controls but tab and line feed, invisible and bidirectional format characters (Unicode TR 36,
#: 2.10.4; UTS 55), tags, private use and half characters.
_HIDDEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb"
    "\ud800-\udfff\ue000-\uf8ff\U0001d173-\U0001d17a\U000e0000-\U000e0fff\U000f0000-\U0010ffff"
    "]"
    # Joiners belong into emoji and into scripts that need them, and not beside ASCII.
    "|(?:(?<=[\x00-\x7f])|^)[\u200c\u200d]|[\u200c\u200d](?=[\x00-\x7f]|$)"
)


def visible(text: object) -> str:
    """``text``, with what could hide or disguise a part of it written as ``\\u{…}``."""
    return _HIDDEN.sub(lambda found: f"\\u{{{ord(found[0]):X}}}", str(text))


def sentence(text: object) -> str:
    """``text`` as a sentence that stands by itself on a page: with a capital, and with its end."""
    said = str(text)
    return said[:1].upper() + said[1:] + ("" if said.endswith((".", "?", "!", "…")) else ".")


def visible_json(text: str) -> str:
    """JSON that says the same as ``text``, with those characters escaped in its strings."""
    return _HIDDEN.sub(lambda found: json.dumps(found[0])[1:-1], text)
