"""All targets."""

from __future__ import annotations

from tests.faults.fuzz import facade_requests, stores, vocabulary

TARGETS = (*vocabulary.TARGETS, *stores.TARGETS, *facade_requests.TARGETS)
BY_NAME = {target.name: target for target in TARGETS}
