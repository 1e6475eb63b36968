"""A product catalog as an MCP server: search, look up, check stock.

    python examples/product_catalog.py --port 8001

serves MCP at http://127.0.0.1:8001/mcp and its health at http://127.0.0.1:8001/health.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Annotated, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

Category = Literal["kitchen", "office", "outdoor", "audio"]
READ_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)


class Product(BaseModel):
    """One thing that the shop sells."""

    sku: str = Field(description="Stock keeping unit, such as KET-100")
    name: str
    category: Category
    price: float = Field(description="Price in euros, tax included")
    rating: float = Field(description="Average rating, 1 to 5")
    description: str


class Stock(BaseModel):
    """How many of a product are where."""

    sku: str
    available: int = Field(description="Pieces that can be shipped today, all warehouses together")
    warehouses: dict[str, int] = Field(description="Pieces by warehouse")
    restock_date: str | None = Field(description="Next delivery (ISO 8601), when none is available")


PRODUCTS = {
    product.sku: product
    for product in (
        Product(
            sku="KET-100",
            name="Gooseneck kettle",
            category="kitchen",
            price=64.90,
            rating=4.7,
            description="Electric pour-over kettle, 0.9 l, holds its temperature for an hour.",
        ),
        Product(
            sku="KNF-210",
            name="Chef's knife",
            category="kitchen",
            price=89.00,
            rating=4.8,
            description="20 cm blade of carbon steel with an oak handle.",
        ),
        Product(
            sku="LMP-055",
            name="Desk lamp",
            category="office",
            price=49.50,
            rating=4.3,
            description="Dimmable LED lamp, 2700 to 5000 K, clamps to the desk.",
        ),
        Product(
            sku="CHR-300",
            name="Standing stool",
            category="office",
            price=179.00,
            rating=4.1,
            description="Height 55 to 80 cm, tilts in all directions.",
        ),
        Product(
            sku="TNT-002",
            name="Two-person tent",
            category="outdoor",
            price=249.00,
            rating=4.6,
            description="2.1 kg, three seasons, stands without pegs.",
        ),
        Product(
            sku="FLK-750",
            name="Insulated flask",
            category="outdoor",
            price=32.00,
            rating=4.5,
            description="0.75 l, keeps tea hot for twelve hours.",
        ),
        Product(
            sku="HPH-900",
            name="Studio headphones",
            category="audio",
            price=159.00,
            rating=4.4,
            description="Closed, 250 ohms, with a cable that can be replaced.",
        ),
        Product(
            sku="SPK-120",
            name="Bookshelf speaker",
            category="audio",
            price=219.00,
            rating=4.2,
            description="Two-way, 50 W, sold one by one.",
        ),
    )
}

STOCK = {
    "KET-100": {"berlin": 12, "lyon": 3},
    "KNF-210": {"berlin": 0, "lyon": 0},
    "LMP-055": {"berlin": 41, "lyon": 18},
    "CHR-300": {"berlin": 2, "lyon": 0},
    "TNT-002": {"berlin": 0, "lyon": 7},
    "FLK-750": {"berlin": 120, "lyon": 64},
    "HPH-900": {"berlin": 5, "lyon": 9},
    "SPK-120": {"berlin": 0, "lyon": 0},
}

RESTOCK = {"KNF-210": "2026-12-04", "SPK-120": "2026-12-11"}

server = MCPServer(
    "product-catalog",
    title="Product catalog",
    version="1.4.0",
    instructions="Search products first; the other tools want a SKU from the search.",
)


def product_of(sku: str) -> Product:
    """Return the product of ``sku``; raises ToolError, whose text the model reads."""
    product = PRODUCTS.get(sku.upper())
    if product is None:
        raise ToolError(f"No product has the SKU {sku!r}; search_products finds SKUs.")
    return product


@server.tool(title="Search products", annotations=READ_ONLY)
def search_products(
    query: Annotated[str, Field(description="Words to look for; empty for all products")] = "",
    category: Annotated[Category | None, Field(description="Only this category")] = None,
    max_price: Annotated[float | None, Field(description="At most this many euros", gt=0)] = None,
) -> list[Product]:
    """Find products by words, category and price; best rated first."""
    words = query.lower().split()
    found = [
        product
        for product in PRODUCTS.values()
        if all(word in f"{product.name} {product.description}".lower() for word in words)
        and category in (None, product.category)
        and (max_price is None or product.price <= max_price)
    ]
    return sorted(found, key=lambda product: -product.rating)


@server.tool(title="Get a product", annotations=READ_ONLY)
def get_product(sku: Annotated[str, Field(description="The product's SKU")]) -> Product:
    """Return everything that is known about one product."""
    return product_of(sku)


@server.tool(title="Check stock", annotations=READ_ONLY)
def check_stock(sku: Annotated[str, Field(description="The product's SKU")]) -> Stock:
    """Say how many of a product can be shipped today, and when more will come."""
    product = product_of(sku)
    warehouses = STOCK[product.sku]
    available = sum(warehouses.values())
    return Stock(
        sku=product.sku,
        available=available,
        warehouses=warehouses,
        restock_date=None if available else RESTOCK.get(product.sku),
    )


@server.tool(title="Compare products", annotations=READ_ONLY)
def compare_products(
    skus: Annotated[list[str], Field(description="Two to four SKUs", min_length=2, max_length=4)],
) -> list[Product]:
    """Return several products side by side, cheapest first."""
    return sorted((product_of(sku) for sku in skus), key=lambda product: product.price)


@server.resource("catalog://categories", mime_type="application/json")
def categories() -> str:
    """The categories, each with the number of its products."""
    counts: dict[str, int] = {}
    for product in PRODUCTS.values():
        counts[product.category] = counts.get(product.category, 0) + 1
    return json.dumps(counts)


@server.prompt(title="Recommend a product")
def recommend(
    need: Annotated[str, Field(description="What the customer wants it for")],
    budget: Annotated[str, Field(description="How many euros it may cost")] = "any",
) -> str:
    """Ask for a recommendation from what is in stock."""
    return (
        f"A customer needs: {need}. Budget in euros: {budget}. Search the catalog, check the "
        "stock of the best matches, and recommend one that can be shipped today, in two sentences."
    )


async def health(_: Request) -> Response:
    """Say that the process serves."""
    return JSONResponse({"status": "ok", "products": len(PRODUCTS)})


server.custom_route("/health", methods=["GET"])(health)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default=os.environ.get("HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8001")))
    given = parser.parse_args()
    server.run("streamable-http", host=given.host, port=given.port)


if __name__ == "__main__":
    main()
