"""The logins of this user: a file for each facade, with its tokens, that nobody else can read."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mcp_discovery.errors import InvalidInputError

if TYPE_CHECKING:
    from mcp_discovery.bearer_tokens import GivenToken, IssuedToken
    from mcp_discovery.oauth.client import OAuthClient, OAuthGrant

#: Seconds before its end from which on a token is renewed.
_EARLY = 30.0
#: Seconds to wait for another command of this user that renews the same login.
_PATIENCE = 20.0
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """What is kept of one login. ``wanted`` are the ``scope`` and ``resource`` of each request."""

    facade: str
    issuer: str
    client_id: str
    access_token: str = field(repr=False)
    expires_at: float | None = None
    refresh_token: str | None = field(default=None, repr=False)
    client_secret_file: str | None = None
    wanted: dict[str, str] = field(default_factory=dict)

    def with_grant(self, grant: OAuthGrant) -> StoredLogin:
        """The same login with what was issued now."""
        return replace(
            self,
            access_token=grant.token.value,
            expires_at=grant.token.expires_at,
            refresh_token=grant.refresh_token,
        )

    def lasts(self, seconds: float) -> bool:
        """Whether the token is valid for so long from now on, as far as is known."""
        return self.expires_at is None or self.expires_at - time.time() > seconds

    async def client(self) -> OAuthClient:
        """The client that the tokens were issued to; raises :class:`TokenError`."""
        from mcp_discovery.credential_files import Secret
        from mcp_discovery.oauth.client import OAuthClient
        from mcp_discovery.oauth.metadata import authorization_server

        file = self.client_secret_file
        secret = None
        if file is not None:
            secret = Secret("OAuth client's secret", None, file, in_header=False)
        return OAuthClient(await authorization_server(self.issuer), self.client_id, secret)

    async def renewed(self) -> StoredLogin:
        """The login with another token; the same where nothing renews it.

        Raises :class:`TokenError`.
        """
        if self.refresh_token is None and self.client_secret_file is None:
            return self
        client = await self.client()
        if self.refresh_token is not None:
            return self.with_grant(await client.refresh(self.refresh_token, self.wanted))
        return self.with_grant(await client.client_credentials(self.wanted))


def folder() -> Path:
    """Where this user's logins are, by the XDG Base Directory Specification.

    Raises :class:`InvalidInputError` for a user who has no home, as in many containers.
    """
    given = os.environ.get("XDG_CONFIG_HOME", "")
    home = os.path.expanduser("~")
    if not os.path.isabs(given) and not os.path.isabs(home):
        raise InvalidInputError(
            "this user has no home directory to keep a login in; set HOME or XDG_CONFIG_HOME, or "
            "give a token by MCP_DISCOVERY_FACADE_TOKEN"
        )
    base = Path(given) if os.path.isabs(given) else Path(home) / ".config"
    return base / "mcp-discovery" / "logins"


def path_of(facade: str) -> Path:
    """The file of the login at ``facade``."""
    parts = urlsplit(facade)
    host = (parts.hostname or "").lower()
    port = parts.port or _PORTS.get(parts.scheme, 0)
    meant = f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"
    safe = "".join(each if each.isalnum() else "-" for each in host)[:60]
    return folder() / f"{safe}-{hashlib.sha256(meant.encode()).hexdigest()[:16]}.json"


def find(facade: str) -> StoredLogin | None:
    """The login at ``facade``; ``None`` where there is none.

    Raises :class:`InvalidInputError` for a file that others can read, or that is damaged.
    """
    try:
        path = path_of(facade)
    except InvalidInputError:  # who has no home has no login
        return None
    return read(path)


def read(path: Path) -> StoredLogin | None:
    """The login in the file ``path``; raises as :func:`find` does."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            data = file.read(2**20)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidInputError(f"cannot read the login in {path}: {error.strerror}") from error
    if os.name == "posix" and mode & 0o077:
        raise InvalidInputError(
            f"others can read your login in {path} (mode {mode:04o}); run: mcp-discovery logout "
            f"--all, and log in again, or chmod 600 it if nobody has"
        )
    try:
        return _parsed(json.loads(data))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInputError(
            f"the login in {path} is damaged; run: mcp-discovery login"
        ) from error


def save(login: StoredLogin) -> None:
    """Keeps ``login``: written at once and whole, for this user alone to read."""
    path = path_of(login.facade)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A temporary file is its owner's alone (0600) from the beginning.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            try:
                json.dump(asdict(login), file)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise InvalidInputError(f"cannot keep the login in {path}: {error.strerror}") from error


def remove(path: Path) -> None:
    """Removes the login in the file ``path``, readable or not."""
    for each in (path, path.with_suffix(".lock")):
        with suppress(FileNotFoundError):
            each.unlink()


def token_for(facade: str) -> GivenToken | None:
    """What is asked for the token of the login at ``facade``; ``None`` where there is none.

    Raises as :func:`find` does.
    """
    return None if find(facade) is None else _LoginToken(facade)


class _LoginToken:
    """Returns the token of a login, and renews it where it has ended or was refused.

    Commands that run at the same time renew it once: a refresh token may be good for one use only.
    """

    def __init__(self, facade: str) -> None:
        self._facade = facade
        self._last: str | None = None
        self._renewing: asyncio.Task[StoredLogin] | None = None

    async def __call__(self) -> IssuedToken:
        """The token; raises :class:`TokenError`."""
        login = self._found()
        if login.access_token == self._last or not login.lasts(_EARLY):
            if self._renewing is None or self._renewing.done():
                self._renewing = asyncio.create_task(self._renewed())
                self._renewing.add_done_callback(lambda task: task.cancelled() or task.exception())
            # It goes on when whoever waits for it is cancelled: what is issued for a refresh token
            # that is good for one use has to be kept.
            login = await asyncio.shield(self._renewing)
        self._last = login.access_token
        return _issued(login)

    def _found(self) -> StoredLogin:
        from mcp_discovery.errors import TokenError

        if (login := find(self._facade)) is None:
            raise TokenError("you are logged out", denied=True)
        return login

    async def _renewed(self) -> StoredLogin:
        from mcp_discovery.errors import TokenError

        async with _locked(self._facade):
            login = self._found()
            if login.access_token != self._last and login.lasts(_EARLY):
                return login  # another command has renewed it
            try:
                renewed = await login.renewed()
            except TokenError as error:
                if not error.denied and login.access_token != self._last and login.lasts(0):
                    return login  # the issuer is away; it is still good for a while
                raise
            if renewed is login and not login.lasts(0):
                raise TokenError("your login has ended", denied=True)
            if renewed is not login:
                save(renewed)
            return renewed


def _issued(login: StoredLogin) -> IssuedToken:
    from mcp_discovery.bearer_tokens import IssuedToken

    return IssuedToken(login.access_token, login.expires_at)


@asynccontextmanager
async def _locked(facade: str) -> AsyncIterator[None]:
    """No other process of this user renews the login at ``facade`` meanwhile."""
    if sys.platform == "win32":  # which has no such locks: both may renew it
        yield
        return
    import fcntl

    from mcp_discovery.errors import TokenError

    path = path_of(facade).with_suffix(".lock")
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    problem = f"another command renews the login for {_PATIENCE:g} s already"
                    raise TokenError(f"{problem}; try again") from None
            await asyncio.sleep(0.05)
        yield
    finally:
        os.close(handle)


def _parsed(content: Any) -> StoredLogin:
    """Raises :class:`ValueError` or :class:`TypeError` for what is no login."""
    known = {each.name: content[each.name] for each in fields(StoredLogin) if each.name in content}
    login = StoredLogin(**known)
    texts = (login.facade, login.issuer, login.client_id, login.access_token)
    optional = (login.refresh_token, login.client_secret_file)
    if not all(isinstance(each, str) and each for each in texts):
        raise ValueError("a text is missing")
    if not all(each is None or isinstance(each, str) for each in optional):
        raise ValueError("a text is none")
    if not isinstance(login.expires_at, int | float | None) or not isinstance(login.wanted, dict):
        raise ValueError("its end or what was wanted cannot be read")
    return login
