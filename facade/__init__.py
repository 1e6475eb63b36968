"""The facade: serves the live list over HTTP, and keeps what was posted to it."""

from facade.app import create_app
from facade.options import FacadeOptions
from facade.run import CannotListen, run, serving

__all__ = ["CannotListen", "FacadeOptions", "create_app", "run", "serving"]
