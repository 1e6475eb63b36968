"""Credentials that were refused: why, for figures and the log, and never for who sent them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mcp_discovery.errors import DiscoveryError

if TYPE_CHECKING:
    from mcp_discovery.facade.access.auth_file import Policy

log = logging.getLogger(__name__)

#: Between two lines of the log for one reason are at least so many seconds.
_LINE_EVERY = 10.0


class UntrustedTokenError(DiscoveryError):
    """A credential that does not count; ``reason`` is one of a few words, for figures.

    The message holds nothing of the credential itself.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class IssuerAwayError(DiscoveryError):
    """No keys of the issuer are known, or none that count still."""


class RefusedCredentials:
    """Counts what was refused, by reason, and logs some of it."""

    def __init__(self) -> None:
        #: Reason → how often.
        self.counts: Counter[str] = Counter()
        self._due: dict[str, float] = {}

    def note(self, error: UntrustedTokenError, address: str) -> None:
        """One more, from the client at ``address``."""
        self.counts[error.reason] += 1
        now = time.monotonic()
        if now >= self._due.get(error.reason, 0.0):
            self._due[error.reason] = now + _LINE_EVERY
            log.info(
                "a credential from %s does not count (%s): %s; %d so far",
                *(address, error.reason, error, self.counts[error.reason]),
            )


class CredentialFigures(Collector):
    """The figures of credentials and of issuers for Prometheus."""

    def __init__(self, refused: RefusedCredentials, policy: Callable[[], Policy] | None) -> None:
        self._refused = refused
        self._policy = policy

    def collect(self) -> Iterable[Metric]:
        """See :class:`prometheus_client.registry.Collector`."""
        refused = CounterMetricFamily(
            "mcp_discovery_credentials_refused",
            "Credentials that do not count, by reason.",
            labels=("reason",),
        )
        for reason, count in self._refused.counts.items():
            refused.add_metric((reason,), count)
        yield refused
        ages = GaugeMetricFamily(
            "mcp_discovery_issuer_keys_age_seconds",
            "Time since the keys of an issuer were read; absent before the first time.",
            labels=("issuer",),
        )
        for url, keys in self._policy().issuers.items() if self._policy else ():
            if (age := keys.age) is not None:
                ages.add_metric((url,), age)
        yield ages
