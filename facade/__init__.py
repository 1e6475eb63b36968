"""The facade: serves the live list over HTTP, and keeps what was posted to it."""

from mcp_discovery.facade.app import create_app
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.run import ListenError, run, serving

__all__ = ["FacadeOptions", "ListenError", "create_app", "run", "serving"]
