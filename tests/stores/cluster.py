"""Several servers of one store that elect a leader, as one thing to start and to break."""

from collections.abc import Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

from tests.stores.server import START_TIMEOUT, StoreServer, open_together
from tests.stores.waiting import until

Member = TypeVar("Member", bound=StoreServer)


class StoreCluster(Generic[Member]):
    """The members of a cluster. `async with` starts and removes them; break them one by one."""

    def __init__(self, members: Sequence[Member]) -> None:
        """`members` are not started yet and learn of each other here."""
        self.members = members
        for member in members:
            member.peers = members

    async def __aenter__(self) -> Self:
        await open_together(self.members)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for member in self.members:
            await member.close()

    @property
    def answering(self) -> Sequence[Member]:
        """The members that are neither stopped nor paused."""
        return [member for member in self.members if member.answering]

    async def leader(self, timeout: float = 15) -> Member:
        """The member that takes itself for the leader, once there is exactly one.

        Raises `TimeoutError` when there is none within `timeout` seconds: no quorum, say.
        """

        async def the_one() -> Member | None:
            leaders = [member for member in self.answering if await member.leads()]
            return leaders[0] if len(leaders) == 1 else None

        leader = await until(the_one, timeout=timeout, what="the election of one leader")
        assert leader is not None
        return leader

    async def followers(self, timeout: float = 15) -> Sequence[Member]:
        """The answering members but the leader. Raises as `leader` does."""
        leader = await self.leader(timeout)
        return [member for member in self.answering if member is not leader]

    async def ready(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until every answering member serves reads and writes, or raise `ServerFailed`."""
        for member in self.answering:
            await member.ready(timeout)

    async def restart(self, *, wipe: bool = False, wait: bool = True) -> None:
        """Kill all members and start them again: with their data, or empty if `wipe`.

        Wait until all of them serve, unless told not to; an empty one cannot do without.
        """
        for member in self.members:
            await member.kill()
        if wipe:
            for member in self.members:
                await member.wipe()
        for member in self.members:
            await member.start(wait=False)
        if wait or wipe:
            await self.ready()
            await self.members[0].furnish()
