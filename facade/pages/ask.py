"""The page that asks: a question, and each step to its answer as it is made."""

from __future__ import annotations

from aiohttp import web

from mcp_discovery.ask.model import LONGEST_QUESTION
from mcp_discovery.ask.providers import PROVIDERS
from mcp_discovery.facade.ask.asking import ASKING
from mcp_discovery.facade.ask.handlers import ASK, OFF
from mcp_discovery.facade.http.operation import Parameter
from mcp_discovery.facade.pages.site import page, page_operation


async def ask(request: web.Request) -> web.Response:
    """A form for a question, and its answer as `POST /api/ask` streams it."""
    asking = request.app.get(ASKING)
    providers = () if asking is None else asking.providers
    question = request.query.get("question", "")[:LONGEST_QUESTION]
    return page(
        request,
        "ask.html",
        title="Ask",
        current="ask",
        off=None if asking is not None else OFF,
        providers=[(each, PROVIDERS[each].title) for each in providers],
        question=question,
        longest=LONGEST_QUESTION,
        api=ASK.lstrip("/"),
    )


OPERATIONS = (
    page_operation(
        "/ui/ask",
        ask,
        needs="call",
        parameters=(Parameter("question", "What stands in the form; it is not asked by itself."),),
    ),
)
