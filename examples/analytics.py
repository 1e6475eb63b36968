"""Web analytics as an MCP server: top pages, a sales report, events to track.

    python examples/analytics.py --port 8002

serves MCP at http://127.0.0.1:8002/mcp and its health at http://127.0.0.1:8002/health.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Literal

from mcp.server import MCPServer
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

Period = Literal["day", "week", "month"]
READ_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
RECORDING = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)

DAYS: dict[Period, int] = {"day": 1, "week": 7, "month": 30}
DAILY_VIEWS = {
    "/": 1840,
    "/products/kettle": 612,
    "/products/tent": 433,
    "/blog/pour-over-guide": 397,
    "/checkout": 151,
    "/about": 64,
}
BOUNCE_RATES = {"/": 0.41, "/products/kettle": 0.28, "/blog/pour-over-guide": 0.67}
DAILY_SALES = {
    "kitchen": (21, 1466.20),
    "office": (9, 1003.50),
    "outdoor": (14, 1622.00),
    "audio": (6, 1014.00),
}


class Page(BaseModel):
    """How one page did."""

    path: str
    views: int
    bounce_rate: float | None = Field(description="Share of visits that saw no other page, 0 to 1")


class CategorySales(BaseModel):
    """What one category sold."""

    category: str
    orders: int
    revenue: float = Field(description="Euros, tax included")


class SalesReport(BaseModel):
    """What the shop sold in a period."""

    period: Period
    orders: int
    revenue: float = Field(description="Euros, tax included")
    average_order: float = Field(description="Euros")
    by_category: list[CategorySales]


class Tracked(BaseModel):
    """That an event was recorded."""

    event: str
    count: int = Field(description="How often this event was recorded since the server started")
    recorded_at: str = Field(description="RFC 3339, UTC")


events: Counter[str] = Counter()

server = MCPServer(
    "analytics",
    title="Web analytics",
    version="2.1.0",
    instructions="All figures are for the web shop; periods end today.",
)


@server.tool(title="Top pages", annotations=READ_ONLY)
def top_pages(
    period: Annotated[Period, Field(description="How far to look back")] = "week",
    limit: Annotated[int, Field(description="How many pages", ge=1, le=50)] = 5,
) -> list[Page]:
    """Return the pages with the most views, most viewed first."""
    viewed = sorted(DAILY_VIEWS.items(), key=lambda entry: -entry[1])[:limit]
    return [
        Page(path=path, views=views * DAYS[period], bounce_rate=BOUNCE_RATES.get(path))
        for path, views in viewed
    ]


@server.tool(title="Sales report", annotations=READ_ONLY)
def sales_report(
    period: Annotated[Period, Field(description="How far to look back")] = "month",
) -> SalesReport:
    """Sum up orders and revenue, in all and by category."""
    days = DAYS[period]
    by_category = [
        CategorySales(category=name, orders=orders * days, revenue=round(revenue * days, 2))
        for name, (orders, revenue) in DAILY_SALES.items()
    ]
    orders = sum(sales.orders for sales in by_category)
    revenue = round(sum(sales.revenue for sales in by_category), 2)
    return SalesReport(
        period=period,
        orders=orders,
        revenue=revenue,
        average_order=round(revenue / orders, 2),
        by_category=by_category,
    )


@server.tool(title="Conversion rate", annotations=READ_ONLY)
def conversion_rate(
    period: Annotated[Period, Field(description="How far to look back")] = "week",
) -> float:
    """Return the share of home page views that ended in an order, 0 to 1."""
    orders = sum(orders for orders, _ in DAILY_SALES.values()) * DAYS[period]
    return round(orders / (DAILY_VIEWS["/"] * DAYS[period]), 4)


@server.tool(title="Track an event", annotations=RECORDING)
def track_event(
    event: Annotated[str, Field(description="The event's name, such as newsletter_signup")],
    value: Annotated[int, Field(description="How often it happened", ge=1)] = 1,
) -> Tracked:
    """Record that something happened; kept until the server stops."""
    events[event] += value
    return Tracked(event=event, count=events[event], recorded_at=datetime.now(UTC).isoformat())


@server.resource("analytics://events", mime_type="application/json")
def tracked_events() -> str:
    """All events tracked since the server started, with their counts."""
    return json.dumps(events)


@server.prompt(title="Weekly summary")
def weekly_summary(
    audience: Annotated[str, Field(description="Who reads it")] = "the team",
) -> str:
    """Ask for a summary of the week."""
    return (
        f"Write a summary of the past week for {audience}: call sales_report and top_pages with "
        "period 'week', name the strongest category and the page to improve, in five sentences."
    )


async def health(_: Request) -> Response:
    """Say that the process serves."""
    return JSONResponse({"status": "ok", "events": sum(events.values())})


server.custom_route("/health", methods=["GET"])(health)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default=os.environ.get("HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8002")))
    given = parser.parse_args()
    server.run("streamable-http", host=given.host, port=given.port)


if __name__ == "__main__":
    main()
