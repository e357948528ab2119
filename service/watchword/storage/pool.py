"""Connections to PostgreSQL: how many, how long to wait for one, and how each is set up."""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from typing import Any, Literal, Self, TypeAlias
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

CLOSE_SECONDS = 5.0
# What closing a connection may take; idle ones are given back without any exchange.
RELEASE_SECONDS = 1.0
# So many statements of a transaction may take as long as one may.
TRANSACTION_STATEMENTS = 4
# How much the last loan says about the next: about ten of them decide.
PACE_WEIGHT = 0.1

# By name and never the server's default. Production runs at the first; the others are for tests.
Isolation = Literal["read_committed", "repeatable_read", "serializable"]


class DatabaseSettings(Section):
    """Where PostgreSQL is, and how many connections this process may hold."""

    url: SecretStr = Field(description="libpq URL; off loopback `sslmode=verify-full` is demanded")
    pool_size: int = Field(
        10, ge=1, le=1000, description="connections of this process; it takes up to three more"
    )
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
    """A bounded pool; opens its connections when they are first wanted.

    The driver's own time-outs wait for the server to confirm a cancel, for ever when it is frozen.
    Nothing here does: whoever is cancelled leaves a connection that is cut off there and then, and
    the server rolls back what it was doing.
    """

    def __init__(
        self,
        settings: DatabaseSettings,
        *,
        isolation: Isolation = "read_committed",
        query_logger: Callable[[LoggedQuery], None] | None = None,
    ) -> None:
        self.isolation: Isolation = isolation
        self._settings = settings
        self._wait_seconds = settings.acquire_timeout.total_seconds()
        # What the longest transaction may take; the deadlines of calls are shorter.
        self.longest_seconds = (
            settings.acquire_timeout + TRANSACTION_STATEMENTS * settings.statement_timeout
        ).total_seconds()
        self._query_logger = query_logger
        self._pool: asyncpg.Pool | None = None
        self._line = _Line(settings.pool_size)

    async def open(self) -> None:
        """Makes the pool; PostgreSQL need not be there yet."""
        self._pool = await asyncpg.create_pool(
            min_size=0,
            max_size=self._settings.pool_size,
            command_timeout=None,
            init=self._init,
            reset=_keep_session_state,
            **self._connect_options(),
        )

    async def connect(self) -> asyncpg.Connection:
        """Opens a connection beside the pool, set up like those in it; the caller closes it."""
        return await asyncpg.connect(**self._connect_options())

    def _connect_options(self) -> dict[str, Any]:
        statement_timeout_ms = self._settings.statement_timeout // timedelta(milliseconds=1)
        return {
            "dsn": self._settings.url.get_secret_value(),
            "timeout": self._wait_seconds,
            "server_settings": {
                "application_name": "watchword",
                # A backend whose client has cut the connection off should not go on for long.
                "client_connection_check_interval": "500",
                "default_transaction_isolation": self.isolation.replace("_", " "),
                "idle_in_transaction_session_timeout": "10000",
                # The statements are small: compiling one costs more than it runs.
                "jit": "off",
                "statement_timeout": str(statement_timeout_ms),
                "timezone": "UTC",
            },
        }

    async def _init(self, connection: asyncpg.Connection) -> None:
        if self._query_logger is not None:
            connection.add_query_logger(self._query_logger)

    async def close(self) -> None:
        """Closes every connection, by force where one does not end within 5 seconds."""
        if self._pool is None:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()
        self._pool = None

    async def reconnect(self) -> None:
        """Replaces every connection at its next use: after a hang they may lead nowhere."""
        if self._pool is not None:
            await self._pool.expire_connections()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lends a connection; one that its user was cancelled on is cut off.

        Raises Overloaded when all stayed busy for `acquire_timeout`, and at once when the line is
        longer than that; the driver's errors and TimeoutError when PostgreSQL does not answer.
        """
        if self._pool is None:
            raise RuntimeError("the pool is not open")
        if self._line.is_too_long(self._wait_seconds):
            raise Overloaded
        try:
            with self._line.waiting():
                connection = await self._pool.acquire(timeout=self._wait_seconds)
        except TimeoutError:
            # Busy is one thing, frozen another.
            if self._line.moved_within(self._wait_seconds):
                raise Overloaded from None
            raise
        lent = self._line.now()
        try:
            yield connection
            self._line.answered(lent)
        except asyncio.CancelledError:
            with suppress(asyncpg.InterfaceError):  # it has died by itself, and the pool knows
                connection.terminate()
            raise
        finally:
            await self._pool.release(connection, timeout=RELEASE_SECONDS)


class _Line:
    """Who waits for a connection, and how fast the line moves; times are the loop's, in seconds."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._waiting = 0
        self._pace_seconds = 0.0
        self._last_answer = -math.inf

    @staticmethod
    def now() -> float:
        return asyncio.get_running_loop().time()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def answered(self, lent: float) -> None:
        """Notes that a connection came back in good order."""
        self._last_answer = self.now()
        self._pace_seconds += PACE_WEIGHT * (self._last_answer - lent - self._pace_seconds)

    def moved_within(self, seconds: float) -> bool:
        """Whether somebody got an answer: a database that is slow, and not one that is gone."""
        return self.now() - self._last_answer <= seconds

    def is_too_long(self, seconds: float) -> bool:
        """Whether one more would wait longer, at the pace of the last answers."""
        wait = self._waiting / self._places * self._pace_seconds
        return wait > seconds and self.moved_within(seconds)
