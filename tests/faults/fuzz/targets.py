"""All targets."""

from __future__ import annotations

from tests.faults.fuzz import vocabulary

TARGETS = vocabulary.TARGETS
