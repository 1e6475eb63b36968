"""The agents of `deploy/consul/`, whose DNS is asked."""

from __future__ import annotations

from tests.deploy.consul.conftest import site

__all__ = ["site"]
