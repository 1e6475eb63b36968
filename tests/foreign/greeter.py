"""A server on fastmcp 4, with two skills; ``fastmcp run`` serves it."""
# mypy: ignore-errors

from fastmcp import FastMCP
from fastmcp.skills import Skill
from fastmcp.skills.provider import SkillCatalogProvider

skills = [
    Skill(
        name="greetings",
        description="How to greet somebody in any language.",
        instructions="# Greetings\n\nAsk for the language first.\n",
    ),
    Skill(name="partings", description="How to leave.", instructions="# Partings\n\nWave.\n"),
]
server = FastMCP(
    "greeter",
    version="1.0.0",
    instructions="It greets.",
    providers=[SkillCatalogProvider(skills)],
)


@server.tool
def greet(name: str) -> str:
    """Greets."""
    return f"Hello, {name}"


@server.resource("greeting://{name}")
def greeting(name: str) -> str:
    """A greeting to read."""
    return f"Hello, {name}"


@server.prompt
def ask_for(name: str) -> str:
    """Asks for a greeting."""
    return f"Greet {name}"
