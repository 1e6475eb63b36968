"""Targets as Prometheus reads them from an HTTP service discovery."""

from __future__ import annotations

from pydantic import BaseModel, RootModel


class TargetGroup(BaseModel):
    """One instance: where it listens, and what is known of it as labels."""

    targets: list[str]
    labels: dict[str, str]


class TargetGroups(RootModel[list[TargetGroup]]):
    """All instances that have a host and a port."""
