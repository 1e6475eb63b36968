"""One attempt to send one message, and when to try again."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from typing import Final

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.http.outbound import Dialer
from mcp_discovery.facade.webhooks.deliveries import Delivery, now
from mcp_discovery.facade.webhooks.receivers import Receiver
from mcp_discovery.probe.wire import retry_after, socket_errors
from mcp_discovery.urls import wire_url
from mcp_discovery.version import installed_version

#: Seconds that an attempt may take (Standard Webhooks, "Request timeouts"), and the pauses before
#: the next ones ("Deliverability and reliability"); after the last one a message is dead.
TIMEOUT: Final = 20.0
PAUSES: Final = (5.0, 300.0, 1800.0, *(hours * 3600.0 for hours in (2, 5, 10, 14, 20, 24)))
#: Of each pause, this part more or less, so that what failed together is not tried together.
_JITTER: Final = 0.2
#: The longest ``Retry-After`` that is heeded, in seconds.
_LONGEST_WAIT: Final = 86_400.0
#: A receiver that fails again and again is left alone for this long, in seconds, at most.
_LONGEST_PAUSE: Final = 300.0
GONE: Final = 410


@dataclass(frozen=True, slots=True)
class SentOnce:
    """How an attempt ended: with a status, or an error; ``wait`` is its ``Retry-After``."""

    status: int | None
    error: str | None
    wait: float | None = None

    @property
    def done(self) -> bool:
        """Whether the message was taken."""
        return self.error is None


async def attempt(dialer: Dialer, receiver: Receiver, delivery: Delivery) -> SentOnce:
    """Sends a message once. No redirect is followed, and nothing of the answer is read but its
    head."""
    body = delivery.body.encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"mcp-discovery/{installed_version()}",
        **receiver.sign(delivery.id, int(now()), body),
    }
    try:
        with socket_errors():
            async with (
                asyncio.timeout(TIMEOUT),
                dialer.session.post(
                    wire_url(receiver.url),
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    **dialer.tls.options(),
                ) as response,
            ):
                status, answered = response.status, response.headers
    except TimeoutError:
        return SentOnce(None, f"it did not answer within {TIMEOUT:g} s")
    except (DiscoveryError, ValueError) as error:
        return SentOnce(None, str(error)[:500])
    if 200 <= status < 300:
        return SentOnce(status, None)
    why = {GONE: "it wants no more messages (410)"}.get(status, f"it answered {status}")
    if 300 <= status < 400:
        why += ", and no redirect is followed: name the URL that it leads to"
    return SentOnce(status, why, retry_after(answered))


def after(delivery: Delivery, found: SentOnce) -> Delivery:
    """The delivery after an attempt: done, to be tried again later, or dead."""
    at = now()
    tried = replace(
        delivery,
        attempts=delivery.attempts + 1,
        status=found.status,
        error=found.error,
        tried=at,
    )
    if found.done:
        return replace(tried, state="delivered")
    if found.status == GONE or tried.attempts > len(PAUSES):
        return replace(tried, state="dead")
    pause = max(_jittered(PAUSES[tried.attempts - 1]), _wait(found))
    return replace(tried, due=at + pause)


def pause_after(failures: int, found: SentOnce) -> float:
    """For how many seconds a receiver is left alone after so many failures in a row."""
    return max(_jittered(min(2.0 ** min(failures, 16), _LONGEST_PAUSE)), _wait(found))


def _wait(found: SentOnce) -> float:
    return min(found.wait or 0.0, _LONGEST_WAIT)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1 - _JITTER, 1 + _JITTER)
