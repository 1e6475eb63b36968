"""What is probably wrong with a command, told from what it said."""

import pytest

from mcp_discovery.stdio_hints import hint


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("stdin is not a tty", "no terminal"),
        ("Error: this program requires an interactive terminal", "no terminal"),
        ("termios.error: (25, 'Inappropriate ioctl for device')", "no terminal"),
        ("Can not control echo on the terminal.", "no terminal"),
        ("Error opening terminal: unknown.", "no terminal"),
        ("cannot open /dev/tty: No such device or address", "no terminal"),
        ("  --hyperlink  when standard output is connected to a terminal", ""),
        ("Server listening on http://127.0.0.1:3001/mcp", "--url http://127.0.0.1:3001/mcp"),
        ("npm error code E404", "no such package"),
        ("ready", ""),
    ],
)
def test_what_to_do(said: str, says: str) -> None:
    found = hint(said)
    assert says in found if says else not found
