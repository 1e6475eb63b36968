"""The session that holds a record in Consul: the servers end it by themselves.

An agent tells its servers of a check with the token of its registration. When that token is
revoked or expires, they refuse ("Check registration blocked by ACLs"): the TTL lapses at the agent
alone, and for everybody else, DNS included, the check goes on passing. A session ends at the
servers, without the agent, once it was not renewed for twice its TTL, and releases the record: the
watch of the records shows that. To renew it takes a valid token, and writes nothing.

Without ACLs none of this can happen, and there is no session.
"""

from __future__ import annotations

import logging
import math
import re
import time

import orjson

from mcp_discovery.adapters.consul.kv import KVStore, TransactionsBlockedError
from mcp_discovery.adapters.consul.token import OwnToken
from mcp_discovery.adapters.consul.transport import ConsulTransport
from mcp_discovery.adapters.http import StoreResponse

log = logging.getLogger(__name__)

#: Consul's least TTL of a session in seconds, if its servers do not set ``session_ttl_min``.
LEAST_TTL = 10.0
#: What servers say of a TTL that is less than theirs, which is a duration as Go writes it.
_LEAST = re.compile(r"Invalid Session TTL .* between \[(?:(\d+)m)?([\d.]+)(m?)s=")
#: Consul ends a session when it was not renewed for so many of its TTLs.
ENDS_AFTER_TTLS = 2
#: The seconds after which the session of a dead holder has ended, on servers as they are shipped.
LONGEST = ENDS_AFTER_TTLS * LEAST_TTL + 2.0
#: Seconds for which readers wait for a record whose session has ended to be held again: its holder
#: notices within 4 s.
ENDED_FOR = 4.5
#: A session is renewed when this part of the time until its end has passed, by a heartbeat that
#: has nothing else to do …
_RENEW_AFTER = 0.4
#: … and by any other when this part has.
_RENEW_WITHIN = 0.5
#: Seconds until a session is tried again where the token may have none.
_TRY_AGAIN = 60.0
#: The same where ACLs are off.
_ACLS_OFF = 600.0


class ConsulSessions:
    """What all sessions of one store have in common."""

    def __init__(self, http: ConsulTransport, kv: KVStore, token: OwnToken) -> None:
        self.http = http
        self.kv = kv
        self.token = token
        #: Monotonic time before which none is tried.
        self.not_before = -math.inf
        #: The least TTL that the servers are known to allow.
        self.least = 0.0
        #: Why there is none, and what is lost by that; ``None`` where there is one.
        self.lacking: str | None = None

    def refused(self, why: str) -> None:
        """There can be none for now; logs what is lost, once."""
        self.not_before = time.monotonic() + _TRY_AGAIN
        lacking = (
            f"{why}: an instance whose token is revoked or expires stays listed, and in DNS, as it "
            'last was; grant session_prefix "" { policy = "write" }'
        )
        if lacking != self.lacking:
            self.lacking = lacking
            log.warning("%s: %s", self.http.address.shown, lacking)

    def allowed(self) -> None:
        """There is one; the next refusal is news again."""
        self.lacking = None


class RecordSession:
    """The session of one registration with a TTL of ``ttl`` seconds.

    Readers see its end within TTL + 2 s; where Consul's servers allow none as short, within twice
    what they allow and :data:`ENDED_FOR`, which is 25 s for servers as they are shipped.
    """

    def __init__(self, shared: ConsulSessions, ttl: float) -> None:
        self._shared = shared
        self._http = shared.http
        # With the readers' patience, an instance is ``down`` within TTL + 2 s.
        self._ttl = max(ttl / 4, (ttl + 1.5 - ENDED_FOR) / ENDS_AFTER_TTLS)
        #: Its id; ``None`` where there is none.
        self.id: str | None = None
        self._renewed = -math.inf

    def due(self, now: float, *, after: float = _RENEW_AFTER) -> bool:
        """Whether :meth:`hold` should be called at ``now`` (``time.monotonic()``): when the part
        ``after`` of the time until its end has passed."""
        if self.id is None:
            return now >= self._shared.not_before
        return now - self._renewed >= after * ENDS_AFTER_TTLS * self._ttl

    def overdue(self, now: float) -> bool:
        """Whether that can no longer wait for a heartbeat with nothing else to do."""
        return self.due(now, after=_RENEW_WITHIN)

    async def hold(self) -> None:
        """Renews it, or begins a new one: :attr:`id` is another then, or ``None``."""
        sent = time.monotonic()
        if self.id is not None:
            response = await self._http.send("PUT", f"/v1/session/renew/{self.id}")
            if response.status == 200:
                self._renewed = sent
                return
            if response.status != 404:
                self._refuse(response)
                return
            self.id = None
        if sent >= self._shared.not_before:
            await self._begin(sent)

    async def write(self, key: str, value: bytes, *, cas: int) -> bool:
        """Writes a record, held by the session where there is one, if the entry's ModifyIndex is
        ``cas`` (0: if there is none). Returns whether it was written."""
        await self.hold()
        if self.id is not None:
            try:
                return await self._shared.kv.put_held(key, value, cas=cas, session=self.id)
            except TransactionsBlockedError as error:
                self.id = None
                self._shared.refused(str(error))
        return await self._shared.kv.put(key, value, cas=cas)

    async def end(self) -> None:
        """Ends it, and releases what it holds."""
        if self.id is not None:
            ended, self.id = self.id, None
            await self._http.request("PUT", f"/v1/session/destroy/{ended}")

    async def _begin(self, sent: float) -> None:
        if not await self._shared.token.look():
            self._shared.not_before = sent + _ACLS_OFF
            return
        self._ttl = max(self._ttl, self._shared.least)
        response = await self._create()
        if (least := _LEAST.search(response.text)) is not None:
            minutes, seconds, unit = least.groups()
            self._shared.least = 60 * int(minutes or 0) + float(seconds) / (1e3 if unit else 1)
            self._ttl = max(self._ttl, self._shared.least)
            response = await self._create()
        if response.status != 200:
            self._refuse(response)
            return
        with self._http.reading(response):
            self.id = str(self._http.json(response)["ID"])
        self._renewed = sent
        self._shared.allowed()

    async def _create(self) -> StoreResponse:
        # No checks: those of the node flap when separated servers meet again. No lock delay:
        # whoever comes next may hold the record at once.
        wanted = {
            "Name": "mcp-discovery",
            "TTL": f"{round(self._ttl * 1000)}ms",
            "Behavior": "release",
            "LockDelay": "0s",
            "NodeChecks": [],
            "Checks": [],
        }
        return await self._http.send("PUT", "/v1/session/create", data=orjson.dumps(wanted))

    def _refuse(self, response: StoreResponse) -> None:
        """Does without where the token may have no session; raises for any other response."""
        text = response.text.lower()
        if response.status in (404, 405):
            why = "requests for sessions are blocked"
        elif response.status == 403 and "permission denied" in text:
            why = "the token lacks session:write"
        else:
            self._http.refuse(response)
        self.id = None
        self._shared.refused(why)
