"""Files of environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_discovery.env_files import read
from mcp_discovery.errors import InvalidInputError

TEXT = """\ufeff# a comment

PLAIN=one two   # a remark
export EXPORTED = x=y#z
DOUBLE="a\\n\\"b\\" # ${PLAIN} c:\\\\d"
SINGLE='a\\n"b"'
EMPTY=
"""


def test_forms_of_values(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(TEXT)
    assert read(str(file)) == {
        "PLAIN": "one two",
        "EXPORTED": "x=y#z",
        "DOUBLE": 'a\n"b" # ${PLAIN} c:\\d',
        "SINGLE": 'a\\n"b"',
        "EMPTY": "",
    }


def test_what_is_no_variable_is_told_without_it(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("A=1\nhunter2\n")
    with pytest.raises(InvalidInputError) as caught:
        read(str(file))
    assert str(caught.value) == f"{file}:2: is no NAME=VALUE"
    with pytest.raises(InvalidInputError, match="No such file"):
        read(str(tmp_path / "none"))
    file.write_bytes(b"A=\xff")
    with pytest.raises(InvalidInputError, match="not text in UTF-8"):
        read(str(file))
