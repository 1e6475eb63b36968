"""All targets."""

from __future__ import annotations

from tests.faults.fuzz import questions, stores, vocabulary

TARGETS = (*vocabulary.TARGETS, *stores.TARGETS, *questions.TARGETS)
BY_NAME = {target.name: target for target in TARGETS}
