"""What every test may use: the shared real stores, and a loop without leftovers."""

import gc
import logging
import signal
import sys
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import settings

# A shell makes what it starts in the background ignore Ctrl-C, and the programs that are started
# here would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.selection", "tests.stores.fixtures"]

# `make test` checks the same examples each time, on every machine. `make soak` runs the profile
# `fresh` with a seed that it prints.
# How long an example takes is no property of the code: the machine may be busy.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None, print_blob=True)
settings.register_profile("fresh", database=None, deadline=None, print_blob=True)
settings.load_profile("fixed")

#: How many tests leave their garbage for one collection, and how many have ended.
_COLLECTED_AFTER = 10
_ENDED = count(1)


def pytest_collection_finish() -> None:
    """What was imported and collected lives to the end: no collection of garbage looks at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _leaves_no_garbage() -> Iterator[None]:
    """What tests leave, such as whole facades, is collected between two of them: the garbage of
    some hundred at once would stop the loop for seconds, amid some other test.

    aiohttp remembers the applications of the last 1,024 handlers, whether they serve or not.
    """
    yield
    if next(_ENDED) % _COLLECTED_AFTER:
        return
    if (remembered := sys.modules.get("aiohttp.web_app")) is not None:
        remembered._cached_build_middleware.cache_clear()
    gc.collect()


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A command that is run in this process logs to the standard error of its test, which is closed
    with it."""
    loggers = [logging.getLogger(each) for each in (None, "asyncio", "aiohttp.access")]
    before = [(each, each.level, each.handlers[:]) for each in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        for added in [each for each in logger.handlers if each not in handlers]:
            logger.removeHandler(added)


@pytest.fixture(autouse=True)
def in_its_group(request: pytest.FixtureRequest) -> None:
    """A group is run by one worker, so that clusters are not broken beside each other.

    pytest-xdist marks it at the ends of ids; where it cannot, it says nothing.
    """
    mark = request.node.get_closest_marker("xdist_group")
    if mark is None or not request.config.getoption("loadgroup", False):
        return
    if not request.node.nodeid.endswith(f"@{mark.args[0]}"):
        pytest.fail("not run with its group: install the versions that requirements.txt names")
