"""How many connections a listener has: in all, and from one address."""

from __future__ import annotations

import ipaddress
import resource
from collections import Counter
from collections.abc import Callable

#: Connections over the limits that are taken nevertheless, so that health checks find room. When
#: one more comes, the oldest of them is closed: who sends its request at once is answered.
_EXTRA = 64
#: Open files that are left for everything else than connections, and of how many a share is.
_OTHER_FILES, _SHARE = 256, 4
#: The most connections unless another number is given.
_MOST = 50_000


def default_most(open_files: int | None = None) -> int:
    """How many connections a process may have that may have ``open_files`` (by default: its limit),
    if it opens one more for some of them and has files of its own."""
    if open_files is None:
        open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if open_files == resource.RLIM_INFINITY:
        return _MOST
    return min(_MOST, max(open_files - max(_OTHER_FILES, open_files // _SHARE), 16))


class Place:
    """The place of one connection in a :class:`Room`.

    ``over`` is the sentence that says why it has none, in which case it is there for health checks
    alone. ``drop`` closes the connection; whoever opened it sets that.
    """

    __slots__ = ("_room", "address", "drop", "over")

    def __init__(self, room: Room, address: str, over: str | None) -> None:
        self._room: Room | None = room
        self.address = address
        self.over = over
        self.drop: Callable[[], object] = lambda: None

    def leave(self) -> None:
        """Says that the connection has ended; once is enough."""
        if self._room is not None:
            room, self._room = self._room, None
            room.left(self)


class Room:
    """Takes ``most`` connections, of which ``per_address`` may be from one address.

    An IPv6 address counts with all of its /64, which is what one machine has. Loopback addresses
    are not counted by address: proxies and health checks of this machine are there. Neither are
    those that ``exempt`` says yes to.
    """

    def __init__(
        self, most: int, per_address: int, exempt: Callable[[str], bool] = lambda _: False
    ) -> None:
        self.most = most
        self.per_address = per_address
        self._exempt = exempt
        self._taken = 0
        self._by_address: Counter[str] = Counter()
        self._extra: dict[Place, None] = {}

    @property
    def taken(self) -> int:
        """How many connections there are within the limits."""
        return self._taken

    def enter(self, address: str) -> Place:
        """The place of a new connection from ``address``."""
        key = "" if self._exempt(address) else _counted_as(address)
        over = None
        if self._taken >= self.most:
            over = f"{self.most} connections are open here, which is the limit; try again soon"
        elif key and self._by_address[key] >= self.per_address:
            over = (
                f"{self.per_address} connections are open from {key}, which is the limit for one "
                "address; close some, or use them for more than one request"
            )
        place = Place(self, key, over)
        if over is None:
            self._taken += 1
            self._by_address[key] += 1
            return place
        self._extra[place] = None
        if len(self._extra) > _EXTRA:
            oldest = next(iter(self._extra))
            oldest.leave()
            oldest.drop()
        return place

    def left(self, place: Place) -> None:
        """For :meth:`Place.leave`."""
        if place.over is not None:
            self._extra.pop(place, None)
            return
        self._taken -= 1
        self._by_address[place.address] -= 1
        if not self._by_address[place.address]:
            del self._by_address[place.address]


def site_of(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """What clients at ``ip`` are counted by: in IPv6 each has a whole /64."""
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
    return str(ip)


def _counted_as(address: str) -> str:
    """What connections from ``address`` are counted by; ``""`` for no address and loopback."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            if ip.is_loopback:
                return ""
            return site_of(ip)
        ip = ip.ipv4_mapped
    return "" if ip.is_loopback else str(ip)
