"""A calendar as an MCP server written with the SDK: it books meetings, lists and searches them.

``python -m tests.servers.calendar [--port 0] [--version 1.4.0]`` answers ``GET /health`` with how
its searches ended. From version 1.5.0 on it has ``cancel_meeting`` and describes ``book_meeting``
otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from datetime import date
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
WRITES = ToolAnnotations(destructive_hint=False, open_world_hint=False)
ENDED: Counter[str] = Counter()


class Meeting(BaseModel):
    """One meeting."""

    title: str
    day: date
    start: str
    minutes: int
    room: str
    people: int


MEETINGS = [
    Meeting(title=title, day=date(2026, 12, day), start=start, minutes=minutes, room=room, people=n)
    for title, day, start, minutes, room, n in (
        ("Planning", 7, "09:00", 60, "Ada", 6),
        ("Interview: platform", 7, "10:30", 45, "Hopper", 3),
        ("Roadmap", 7, "13:00", 90, "Ada", 9),
        ("One to one", 8, "09:30", 30, "Turing", 2),
        ("Incident review", 8, "11:00", 60, "Hopper", 7),
        ("Demo day", 9, "15:00", 120, "Lovelace", 24),
    )
]


def build(version: str) -> MCPServer:
    """The server, with the tools of ``version``."""
    server = MCPServer(
        "calendar",
        title="Calendar",
        version=version,
        instructions="Times are local to the room. Look for a free slot before you book.",
    )
    later = version >= "1.5.0"
    told = "Book a meeting in a shared calendar and invite people to it."
    told += " Refuses a room that is taken." if later else ""

    @server.tool(title="Book a meeting", description=told, annotations=WRITES)
    def book_meeting(
        title: Annotated[str, Field(description="What it is about", min_length=1)],
        day: Annotated[date, Field(description="On which day")],
        start: Annotated[str, Field(description="When, such as 09:30", pattern=r"^\d\d:\d\d$")],
        minutes: Annotated[int, Field(description="How long", ge=5, le=480)] = 30,
        room: Annotated[str, Field(description="In which room")] = "Ada",
    ) -> Meeting:
        made = Meeting(title=title, day=day, start=start, minutes=minutes, room=room, people=1)
        MEETINGS.append(made)
        return made

    @server.tool(title="List meetings", annotations=READS)
    def list_meetings(
        room: Annotated[str, Field(description="Those in this room alone")] = "",
    ) -> list[Meeting]:
        """List the meetings that are booked, the earliest first."""
        found = [each for each in MEETINGS if room in ("", each.room)]
        return sorted(found, key=lambda each: (each.day, each.start))

    @server.tool(title="Find a free slot", annotations=READS)
    async def find_free_slot(
        context: Context, weeks: Annotated[int, Field(description="How far to look", ge=1)] = 4
    ) -> str:
        """Look through all calendars for a time when everybody is free. Takes a while."""
        try:
            for week in range(weeks):
                await context.report_progress(week, weeks, f"week {week + 1} of {weeks}")
                await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            ENDED["cancelled"] += 1
            raise
        ENDED["done"] += 1
        return "2026-12-10, 14:00"

    if later:

        @server.tool(title="Cancel a meeting", annotations=ToolAnnotations(destructive_hint=True))
        def cancel_meeting(title: Annotated[str, Field(description="Which")]) -> str:
            """Cancel a meeting and tell everybody who was invited."""
            return f"{title} is cancelled"

    @server.resource("calendar://rooms", mime_type="text/plain")
    def rooms() -> str:
        """The rooms and how many people each seats."""
        return "Ada 10\nHopper 8\nLovelace 40\nTuring 4"

    @server.prompt()
    def plan_week(team: str) -> str:
        """Plan the meetings of a team's week."""
        return f"Plan the week of {team}: few meetings, none before ten."

    async def health(_: Request) -> Response:
        return JSONResponse(ENDED)

    server.custom_route("/health", methods=["GET"])(health)
    return server


def main() -> None:
    """Serves until terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--version", default="1.4.0")
    given = parser.parse_args()
    build(given.version).run("streamable-http", host="127.0.0.1", port=given.port)


if __name__ == "__main__":
    main()
