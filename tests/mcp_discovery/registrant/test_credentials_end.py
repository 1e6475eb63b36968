"""The coming end of the store's credentials is in the health that is registered."""

from __future__ import annotations

from datetime import UTC, datetime

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import CredentialsEnd
from mcp_discovery.health import Status
from tests.servers.process import sdk
from tests.sidecar.harness import sidecar, watching

END = datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC)


class ExpiringStore(EmbeddedStore):
    """A store with a token that expires; no real one does in the time of a test."""

    end: CredentialsEnd | None = None

    @property
    def credentials_end(self) -> CredentialsEnd | None:
        return self.end


async def test_a_near_end_is_in_the_reason_until_there_is_another_token() -> None:
    async with ExpiringStore("embedded:") as store, watching(store) as seen, sdk() as server:
        store.end = CredentialsEnd(END, near_from=END)
        async with sidecar(store, server.url):
            one = await seen.until_status(Status.HEALTHY, within=5)
            well = one.health.reason
            assert "expires" not in well
            store.end = CredentialsEnd(END, near_from=datetime.now(UTC))
            one = await seen.until(
                lambda one: one.health.reason != well, within=3, what="another reason"
            )
            assert one.health.status is Status.HEALTHY
            told = "its registrant's store token expires at 2099-01-02T03:04:05.000Z"
            assert one.health.reason == f"{well}; {told}"
            store.end = None
            await seen.until(lambda one: one.health.reason == well, within=3, what="the old one")
