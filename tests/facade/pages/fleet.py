"""Servers for the pages to show: some that live, some that are down, and some that mean harm."""

from __future__ import annotations

from typing import Any

from tests.facade.harness import Client, leased

#: Texts that have broken pages, and what a browser would make of them.
HOSTILE = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "\"><svg onload=document.title='owned'>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:document.title='owned'",
    "\u202egnp.exe\u2066 \u200b\U000e0041\ufeff",
    "W" * 400,
    "ﷺ" * 80,
    "Z̴̢͚̺͎͉̞̟͇̞̬̺̩̎̈́a̷̡̧͈̬̮͕͓͓̘͉͕͎̾̂l̶̡̢̰͔̘͍̞̟̯̦̳̾̀g̴̢̛̲̪͓̰͕̹̠̪̾̈́̑o",
    "שלום עולם مرحبا بالعالم",
    "👩‍👩‍👧‍👦🏴‍☠️" * 40,
    "a\tb\nc   d",
)


def hostile(number: int) -> dict[str, Any]:
    """A server all of whose fields are hostile; it is leased and healthy."""
    text = HOSTILE[number % len(HOSTILE)]
    return leased(
        f"hostile-{number}",
        name=f"hostile-{number}",
        title=text[:100],
        description=text,
        tags=["hostile"],
        zone=text[:60],
        metadata={"note": text[:200]},
        capabilities=[text[:64]],
    )


async def furnish(ask: Client) -> None:
    """Fills the facade that ``ask`` asks."""
    for number in range(len(HOSTILE)):
        reply = await ask("POST", "/servers", hostile(number))
        assert reply.status == 201, reply.body
    calendar = "Books meetings in shared calendars, and lists and cancels them."
    for number in (1, 2):
        lives = leased(
            f"calendar-{number}",
            name="calendar",
            title="Calendar",
            description=calendar,
            tags=["calendar", "office"],
            zone="eu-1",
            capabilities=["book_meeting", "list_meetings"],
        )
        await ask("POST", "/servers", lives)
    down = {
        "id": "rooms-1",
        "name": "rooms",
        "title": "Meeting rooms",
        "description": "Books meeting rooms.",
        "tags": ["office"],
        "url": "http://127.0.0.1:9/mcp",
        "capabilities": ["book_room"],
    }
    await ask("POST", "/servers", down)
    await ask.until_status("rooms-1", "down")
