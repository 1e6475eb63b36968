"""``POST /tokens``: how many tokens texts take of a model's window, as ``find_tools`` counts."""

from __future__ import annotations

import asyncio

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcp_discovery.facade.http.body import Shaped, beside_loop, read_object
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.tokens import token_counter

#: How many texts are counted at once.
_MOST = 100


class TextsModel(BaseModel):
    """Texts to count."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    texts: list[str] = Field(max_length=_MOST, description="1 MiB together, as JSON.")


class TokenCounts(Shaped):
    """How many tokens each of the texts takes."""

    tokens: list[int] = Field(description="In the order of the texts.")
    counted_by: str = Field(description="What counted.")
    exact: bool = Field(description="`false` for a bound that no model's tokenizer exceeds.")


async def count(request: web.Request) -> web.Response:
    """How many tokens texts take of a model's window.

    Counted as `find_tools` counts: with Llama 2's tokenizer where the extra `semantic` is
    installed, else as a bound by bytes.
    """
    body = await read_object(request)
    try:
        given = await beside_loop(request, lambda: TextsModel.model_validate(body))
    except ValidationError as error:
        detail = f'send {{"texts": ["…"]}}, {_MOST} strings at most, without half characters'
        raise ProblemError(422, "invalid-texts", detail, field="texts") from error
    counter = token_counter()
    tokens = await asyncio.to_thread(counter.counts, given.texts)
    counts = TokenCounts(tokens=tokens, counted_by=counter.name, exact=counter.exact)
    return web.json_response(counts.model_dump(by_alias=True))


OPERATIONS = (
    Operation(
        "POST",
        "/tokens",
        count,
        "tools",
        body=TextsModel,
        answers={200: TokenCounts},
        errors=(400, 408, 413, 415, 422),
        needs="read",
    ),
)
