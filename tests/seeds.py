"""What tests that make their own input draw it from.

In ``make test`` the seeds are fixed. ``make soak`` sets ``TESTS_SEED``, and all of them are others;
the same ``TESTS_SEED`` gives the same input again.
"""

import os
from random import Random

SEED = os.environ.get("TESTS_SEED", "")


def seeded(seed: object) -> Random:
    """A source of random choices; ``seed`` tells those of one test from another's."""
    return Random(f"{SEED}/{seed}")
