"""Who may change what: the caller's rights for a record, whose name it is, and who holds it.

A registration that somebody keeps alive is changed by its holder alone, who sends the secret that
its public id is derived from in the header ``MCP-Discovery-Holder``. A registrant of 0.1 has no
such secret: the random id that it names itself by is one, since lists show what is derived from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from aiohttp import web

from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.errors import DuplicateInstanceError, InvalidRecordError
from mcp_discovery.facade.access.caller import Caller, caller_of
from mcp_discovery.facade.access.ownership import names_of
from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.access.quotas import Quotas, quotas_in
from mcp_discovery.facade.access.rights import Verb
from mcp_discovery.facade.http.addresses import AddressPolicy
from mcp_discovery.facade.http.outbound import require_dialable
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.registration.body import Posting
from mcp_discovery.facade.servers.current_list import CATALOG, entry_in, unknown, view_of
from mcp_discovery.facade.state import Facade, facade_of
from mcp_discovery.instance import (
    HOLDER_HEADER,
    UNNAMED_HOLDER,
    Holder,
    Lease,
    is_public_holder,
    public_holder,
)
from mcp_discovery.record import Record

#: The longest secret of a holder.
_LONGEST_SECRET = 255


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who asks for a change: the caller, the list as it sees that, the holder that it names, and
    the secret that it sent; ``quotas`` bound what it may have."""

    caller: Caller
    view: View
    named: str | None
    secret: str | None
    quotas: Quotas | None

    @classmethod
    def of(cls, request: web.Request, body: Mapping[str, Any] | None = None) -> Self:
        """Who sent ``request``; raises :class:`InvalidRecordError` for what cannot be a holder."""
        body = body or {}
        named = request.query.get("holder") or body.get("holder")
        lease = body.get("lease")
        if named is None and isinstance(lease, Mapping) and isinstance(lease.get("holder"), str):
            named = lease["holder"]
        if named is not None and not isinstance(named, str):
            raise InvalidRecordError("holder", "is not a string")
        secret = request.headers.get(HOLDER_HEADER)
        if secret is not None and (is_public_holder(secret) or len(secret) > _LONGEST_SECRET):
            problem = "is not the secret of a holder, of 1 to 255 characters; its public id is none"
            raise InvalidRecordError(HOLDER_HEADER, problem)
        if secret is not None and secret.startswith(UNNAMED_HOLDER):
            named, secret = named or secret, None  # it says who, and proves nothing
        view = parts_of(request)[CATALOG].view
        return cls(caller_of(request), view, named, secret or None, quotas_in(request))

    @property
    def owner(self) -> str | None:
        """The caller as the owner of what it registers; ``None`` for an anonymous one."""
        return self.caller.subject or None

    def administers(self, record: Record, holder: Holder) -> bool:
        """Whether the caller may administer ``record`` as what ``holder`` keeps, as everybody may
        without ``--auth``."""
        return self.may("admin", record, holder)

    def may(self, verb: Verb, record: Record, holder: Holder | None) -> bool:
        """Whether the caller has the right ``verb`` for ``record``."""
        return self.caller.rights.may(verb, record, holder.owner if holder else self.owner)

    def unknown(self, id: str) -> ProblemError:
        """There is no such server, as far as the caller sees."""
        return unknown(id, is_name=id in self.view.keys("name"))

    # -- rights ----------------------------------------------------------------------------------

    def require_existing(self, facade: Facade, id: str) -> None:
        """Raises :class:`ProblemError` where there is an instance that the caller may not change:
        404 where it may not see it either, as for one that does not exist."""
        found = known(facade, id)
        if found is None or self.may("register", *found):
            return
        if not self.may("read", *found):
            raise self.unknown(id)
        raise forbidden(self.caller, "register", repr(id))

    def require_new(self, facade: Facade, record: Record) -> None:
        """Raises :class:`ProblemError` unless the caller may register ``record``, in the place of
        what has its id, and its name is nobody else's. Of a caller who is not known nothing is
        taken at an address that is never dialled (:class:`InvalidRecordError`): nobody could find
        out whether it is there, and Prometheus would be led to it."""
        if not self.may("register", record, None):
            raise forbidden(self.caller, "register", f"servers named {record.name!r}")
        if self.caller.is_anonymous:
            require_dialable(record, AddressPolicy())
        found = known(facade, record.id)
        if found is not None and not self.may("register", *found):
            if self.may("read", *found):
                raise forbidden(self.caller, "register", repr(record.id))
            detail = f"the id {record.id!r} is taken; give this instance another id"
            raise ProblemError(409, "duplicate-instance", detail, id=record.id)
        holder = found[1] if found is not None else None
        but = record.id if self._is(holder) else None
        if facade.names.are_owned:
            facade.view()  # without the first list nobody knows whose the names are
        facade.names.require_origin(record)
        # Nor does an id pass for a name that somebody has.
        passed_for = (record.id,) if facade.names.owner_of(record.id) is not None else ()
        for name in dict.fromkeys((*names_of(record), *passed_for)):
            facade.names.require_owner(self.caller, name, record, but=but)
        if found is not None:
            for name in names_of(found[0]):
                facade.names.require_owner(self.caller, name, found[0], but=but)
        if self.quotas is not None:
            self.quotas.require_room(self.caller, record.id, facade.catalog.view)

    def require_name(self, facade: Facade, id: str) -> None:
        """Raises :class:`ProblemError` (409) where the name of ``id`` is another caller's."""
        found = known(facade, id)
        if facade.names.are_owned:
            facade.view()
        if found is not None and not self._owns(found[1]):
            record, holder = found
            but = id if self._is(holder) else None
            for name in names_of(record):
                facade.names.require_owner(self.caller, name, record, but=but)

    # -- holders ---------------------------------------------------------------------------------

    def _owns(self, holder: Holder) -> bool:
        return self.owner is not None and holder.owner == self.owner

    def _is(self, holder: Holder | None) -> bool:
        """Whether it has shown that it is ``holder``."""
        if holder is None:
            return False
        return holder.is_proven_by(self.secret) or holder.is_proven_by(self.named)

    def names(self, holder: Holder) -> bool:
        """Whether it names ``holder``."""
        return self.named is not None and public_holder(self.named) == holder.public_id

    def acts_for(self, record: Record, holder: Holder) -> bool:
        """Whether it may change ``record``, which ``holder`` keeps: it is that, or it is the owner,
        or administers it, and names it, so that two registrants do not replace each other
        unawares."""
        if self._is(holder):
            return True
        known = not self.caller.is_anonymous
        trusted = self._owns(holder) or (known and self.administers(record, holder))
        return trusted and self.names(holder)

    def require_holder(self, record: Record, holder: Holder, *, anonymous: bool = False) -> None:
        """Raises unless it acts for ``holder``, which keeps ``record``; ``anonymous`` is one that
        gave no name, in whose place anybody may act who names no other.

        Raises :class:`DuplicateInstanceError` where it names another holder, and
        :class:`ProblemError` (409, or 403 where only the proof is missing).
        """
        id, url = record.id, record.endpoint.url
        unnamed = anonymous and (self.named is None or self.names(holder))
        if unnamed or self.acts_for(record, holder):
            return
        if self.named is not None and not self.names(holder):
            raise DuplicateInstanceError(id, holder=str(holder), url=url)
        if self.named is None and self.secret is None:
            raise other_holder(id, holder)
        detail = f"{id!r} is kept by {holder}; send the secret of that one in {HOLDER_HEADER}"
        raise ProblemError(403, "holder-not-proven", detail, id=id)

    def require_not_another(self, id: str, holder: Holder, url: str | None = None) -> None:
        """Raises :class:`DuplicateInstanceError` when another than ``holder`` is named."""
        if self.named is not None and not self.names(holder):
            raise DuplicateInstanceError(id, holder=str(holder), url=url)

    # -- what is registered ----------------------------------------------------------------------

    def identified(self, facade: Facade, posting: Posting) -> Posting:
        """``posting`` with the holder that it was shown to be of, and its owner.

        Raises :class:`ProblemError` (403) for the public id of a holder without its secret.
        """
        lease = posting.lease
        if lease is None:
            return posting
        if self.quotas is not None:
            self.quotas.require_ttl(self.caller, lease.ttl)
        given, anonymous = lease.holder, posting.anonymous
        if anonymous and self.secret is not None:
            given, anonymous = replace(given, id=public_holder(self.secret)), False
        if is_public_holder(given.id) and not given.is_proven_by(self.secret):
            detail = (
                f"the holder {given.id} is derived from a secret; send that in {HOLDER_HEADER}, "
                "or leave lease.holder out"
            )
            raise ProblemError(403, "holder-not-proven", detail, id=posting.record.id)
        secret = self.secret if is_public_holder(given.id) else None
        owner = facade.names.owner_for(self.caller, posting.record, given.owner)
        claims = self.caller.is_anonymous
        if self.administers(posting.record, given):  # such as another facade, for its own callers
            claims |= given.claims
        holder = replace(given, secret=secret, owner=owner, claims=claims, probed=False)
        return replace(
            posting, lease=Lease(holder, lease.ttl, lease.reap_after), anonymous=anonymous
        )


def known(facade: Facade, id: str) -> tuple[Record, Holder] | None:
    """What is registered under ``id``, and by whom, by what this facade does itself and else by the
    list; of one that is missed, as it was last."""
    if (leased := facade.leased.get(id)) is not None:
        return leased.record, leased.lease.holder
    if (posted := facade.posted.get(id)) is not None:
        return posted.record, posted.registrar.holder
    entry = facade.catalog.view.entries.get(id)
    if entry is None:
        entry = facade.missed.get(id)
    return None if entry is None else (entry.record, entry.instance.lease.holder)


def entry_to_report(request: web.Request, id: str) -> Entry:
    """The instance ``id``, of which the caller may report.

    Raises :class:`ProblemError`: 403, or 404 where there is none or it may not see it either.
    """
    caller = caller_of(request)
    entry = facade_of(request).view().entries.get(id)
    if entry is None:
        return entry_in(view_of(request), id)
    record, owner = entry.record, entry.instance.lease.holder.owner
    if caller.rights.may("report", record, owner):
        return entry
    if not caller.rights.may("read", record, owner):
        raise unknown(id, is_name=id in view_of(request).keys("name"))
    raise forbidden(caller, "report", repr(id))


def forbidden(caller: Caller, verb: Verb, what: str) -> ProblemError:
    """The caller has no right ``verb`` for one record."""
    who, do = f"{caller.subject} (roles: {', '.join(caller.roles) or 'none'})", "ask for a role"
    if caller.is_anonymous:
        who, do = "whoever sends no credential", "send one"
    detail = f"{who} has no right to {verb} {what}; {do} that has"
    return ProblemError(403, "forbidden", detail, needs=verb)


def other_holder(id: str, holder: Holder) -> ProblemError:
    """``id`` cannot be changed in the place of its registrant."""
    detail = (
        f"{id!r} is kept by {holder}, which would register it again; stop that one, or send its "
        f"secret in {HOLDER_HEADER}"
    )
    return ProblemError(409, "other-holder", detail, id=id)
