"""Files of environment variables: ``NAME=VALUE`` a line, as ``.env`` files have them.

Blank lines and lines that begin with ``#`` say nothing; ``export`` may stand before a name. A value
in quotes is what stands between them; in double ones a backslash escapes, as in ``\\n``.
Nothing else is expanded.
"""

from __future__ import annotations

import re
from pathlib import Path

from mcp_discovery.errors import InvalidInputError

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.DOTALL)
_QUOTED = re.compile(r""""((?:[^"\\]|\\.)*)"|'([^']*)'""")
_REMARK = re.compile(r"\s+#.*")
_ESCAPE = re.compile(r"\\(.)")
_MEANT = {"n": "\n", "r": "\r", "t": "\t"}


def read(file: str) -> dict[str, str]:
    """The variables in ``file``; raises :class:`InvalidInputError`, which repeats none."""
    try:
        text = Path(file).read_text("utf-8-sig")
    except OSError as error:
        raise InvalidInputError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{file} is not text in UTF-8") from error
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if (parts := _LINE.fullmatch(line)) is None:
            raise InvalidInputError(f"{file}:{number}: is no NAME=VALUE")
        found[parts[1]] = _value(parts[2])
    return found


def _value(text: str) -> str:
    quoted = _QUOTED.match(text)
    if quoted is None:
        return _REMARK.sub("", text)
    if quoted[2] is not None:
        return quoted[2]
    return _ESCAPE.sub(lambda found: _MEANT.get(found[1], found[1]), quoted[1])
