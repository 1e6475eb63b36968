"""A server on whatever fastmcp the environment has; ``fastmcp run`` serves it."""
# mypy: ignore-errors

from fastmcp import FastMCP

server = FastMCP("greeter", version="1.0.0", instructions="It greets.")


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
