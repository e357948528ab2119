"""Connections to PostgreSQL: how many, how long to wait for one, and how each is set up."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Literal, Self, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
from asyncpg.connection import LoggedQuery
from asyncpg.pool import PoolConnectionProxy
from pydantic import Field, SecretStr, model_validator

from watchword.errors import Overloaded
from watchword.settings import Duration, Section, is_loopback

# What the pool lends: a proxy of a connection, useless once it is given back.
# Quoted: the class is generic in its stubs alone.
Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

# By name and never the server's default. Production runs at the first; the others are for tests.
Isolation = Literal["read_committed", "repeatable_read", "serializable"]


class DatabaseSettings(Section):
    """Where PostgreSQL is, and how many connections this process may hold."""

    url: SecretStr = Field(description="libpq URL; off loopback `sslmode=verify-full` is demanded")
    pool_size: int = Field(10, ge=1, le=1000, description="connections of this process")
    allow_plaintext: bool = Field(
        False, description="allow a database off loopback without a verified certificate"
    )
    acquire_timeout: Duration = Field(
        timedelta(seconds=1),
        gt=timedelta(0),
        le=timedelta(seconds=60),
        description="how long a call waits for a free connection before it is OVERLOADED",
    )
    statement_timeout: Duration = Field(
        timedelta(seconds=2),
        gt=timedelta(0),
        le=timedelta(seconds=60),
        description="how long PostgreSQL works at one statement",
    )

    @model_validator(mode="after")
    def _check_transport(self) -> Self:
        url = self.url.get_secret_value()
        try:
            scheme = urlsplit(url).scheme
        except ValueError:
            raise ValueError("url has an address whose brackets do not match") from None
        if scheme not in {"postgres", "postgresql"}:
            raise ValueError("url must begin with `postgresql://`")
        if not all(_PLACE.fullmatch(place) for place in _places(url)):
            raise ValueError("url must have `host`, `host:port` or a list of them after the `@`")
        if not self.allow_plaintext and not _is_trusted(url):
            raise ValueError(
                "url is off loopback without `sslmode=verify-full`; "
                "set WATCHWORD_DATABASE__ALLOW_PLAINTEXT=true where the network itself is trusted"
            )
        return self


def _is_trusted(url: str) -> bool:
    query = parse_qs(urlsplit(url).query)
    return is_local(url) or query.get("sslmode", [""])[-1] == "verify-full"


# A name or an address, the latter in brackets when it has colons, and a port up to 65535.
_PLACE = re.compile(
    r"(\[[^\]@]*\]|[^:\[\]@]*)"
    r"(:([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])?)?"
)


def is_local(url: str) -> bool:
    """Whether the database is reached by a unix socket or over loopback."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    # The driver takes lists, and prefers one of the two places: every host of both has to be local.
    # A service file may name any host.
    places = [*_places(url), *",".join(query.get("host", [])).split(",")]
    return "service" not in query and all(_is_local_place(place) for place in places)


def _places(url: str) -> list[str]:
    """The hosts of the URL's authority, each with its port; cut at the first `@`, as the driver."""
    netloc = urlsplit(url).netloc
    return (netloc.partition("@")[2] if "@" in netloc else netloc).split(",")


def _is_local_place(place: str) -> bool:
    """Reads `host`, `host:port`, `[address]:port` or the folder of a socket, as the driver does."""
    if place.startswith("["):
        place = place.partition("]")[0] + "]"
    elif not place.startswith("/"):
        place = unquote(place.partition(":")[0])
    return place == "" or place.startswith("/") or is_loopback(place)


async def _keep_session_state(connection: asyncpg.Connection) -> None:
    """Replaces asyncpg's reset query, a second round trip at each release.

    Nothing here sets session state, and asyncpg itself has rolled an open transaction back.
    """


class Pool:
    """A bounded pool; opens its connections when they are first wanted."""

    def __init__(
        self,
        settings: DatabaseSettings,
        *,
        isolation: Isolation = "read_committed",
        query_logger: Callable[[LoggedQuery], None] | None = None,
    ) -> None:
        self.isolation: Isolation = isolation
        self._settings = settings
        self._query_logger = query_logger
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Makes the pool; PostgreSQL need not be there yet."""
        statement_timeout_ms = self._settings.statement_timeout // timedelta(milliseconds=1)
        self._pool = await asyncpg.create_pool(
            self._settings.url.get_secret_value(),
            min_size=0,
            max_size=self._settings.pool_size,
            timeout=self._settings.acquire_timeout.total_seconds(),
            command_timeout=None,
            init=self._init,
            reset=_keep_session_state,
            server_settings={
                "application_name": "watchword",
                "default_transaction_isolation": self.isolation.replace("_", " "),
                "idle_in_transaction_session_timeout": "10000",
                # The statements are small: compiling one costs more than it runs.
                "jit": "off",
                "statement_timeout": str(statement_timeout_ms),
                "timezone": "UTC",
            },
        )

    async def _init(self, connection: asyncpg.Connection) -> None:
        if self._query_logger is not None:
            connection.add_query_logger(self._query_logger)

    async def close(self) -> None:
        """Closes every connection, by force where one does not end within 5 seconds."""
        if self._pool is None:
            return
        try:
            async with asyncio.timeout(5):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()
        self._pool = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lends a connection; raises Overloaded when every one stayed busy."""
        if self._pool is None:
            raise RuntimeError("the pool is not open")
        wait_seconds = self._settings.acquire_timeout.total_seconds()
        try:
            connection = await self._pool.acquire(timeout=wait_seconds)
        except TimeoutError:
            if self._pool.get_size() >= self._settings.pool_size:
                raise Overloaded from None
            raise
        try:
            yield connection
        finally:
            await self._pool.release(connection, timeout=5)
