"""A proxy before PostgreSQL's socket that loses the connection at a chosen statement, or at some.

It reads the messages of the protocol (PostgreSQL, "Frontend/Backend Protocol"), so that it cuts
exactly before the statement reaches the server, or exactly when the server has answered it.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, quote, urlsplit

from tests.support.postgres import open_folder

SOCKET_NAME = ".s.PGSQL.5432"
# Codes in place of a version: the first message of a cancel request.
CANCEL_REQUEST = 80877102
# What ends a request of the client, so that it waits for an answer: Query, Sync.
_ENDS_REQUEST = b"QS"


class Cut(Enum):
    """When the connection is lost."""

    BEFORE = "before the statement reaches the server"
    AFTER = "when the server has done it, before its answer arrives"


class CuttingProxy:
    """Stands before the database of a URL; a context manager. Cuts once for each `arm`, and a share
    of what `cut_some` names.
    """

    def __init__(self, database_url: str) -> None:
        parts = urlsplit(database_url)
        self._upstream = Path(parse_qs(parts.query)["host"][0]) / SOCKET_NAME
        self._parts = parts
        self._folder = Path()
        self._undo = contextlib.AsyncExitStack()
        self._links: set[asyncio.Task[None]] = set()
        self._armed: tuple[str, Cut] | None = None
        self._cut_done = asyncio.Event()
        self._often: tuple[Sequence[str], float, random.Random] = ((), 0.0, random.Random(0))
        self.round_trips = 0
        self.seen: Counter[str] = Counter()
        # How many statements `cut_some` has let pass and cut, and the SQLSTATEs of the server.
        self.passed = 0
        self.cuts: Counter[Cut] = Counter()
        self.errors: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """The URL of the database by way of this proxy."""
        host = quote(str(self._folder), safe="")
        return self._parts._replace(query=f"host={host}&port=5432").geturl()

    def arm(self, text: str, cut: Cut) -> None:
        """Cuts at the next statement that holds this text."""
        self._armed = (text, cut)
        self._cut_done.clear()

    def cut_some(self, texts: Sequence[str], *, share: float, chance: random.Random) -> None:
        """Cuts this share of the statements that hold one of these texts, before or after."""
        self._often = (texts, share, chance)

    @property
    def has_cut(self) -> bool:
        """Whether it has cut since `arm`."""
        return self._cut_done.is_set()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as undo:
            self._folder = undo.enter_context(open_folder())
            path = self._folder / SOCKET_NAME
            server = await asyncio.start_unix_server(self._accept, path)
            undo.push_async_callback(self._end_links)
            undo.callback(server.close)
            self._undo = undo.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._undo.aclose()

    async def _end_links(self) -> None:
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            await _Link(self, reader, writer).run(self._upstream)
        except asyncio.CancelledError:
            # The proxy ends. A cancelled task would be logged by the server of asyncio.
            pass
        finally:
            self._links.discard(task)

    def _take(self, text: str) -> Cut | None:
        """Notes a statement that is about to be forwarded; whether and when to cut it."""
        self.seen[text] += 1
        if self._armed is None or self._armed[0] not in text:
            return self._take_one_of_many(text)
        cut = self._armed[1]
        self._armed = None
        self._cut_done.set()
        return cut

    def _take_one_of_many(self, text: str) -> Cut | None:
        texts, share, chance = self._often
        if not any(part in text for part in texts):
            return None
        if chance.random() >= share:
            self.passed += 1
            return None
        cut = chance.choice(list(Cut))
        self.cuts[cut] += 1
        return cut


class _Link:
    """One connection of a client, and the one to the server that belongs to it."""

    def __init__(
        self, proxy: CuttingProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._client = (reader, writer)
        self._prepared: dict[bytes, str] = {}
        self._swallow = False

    async def run(self, upstream: Path) -> None:
        """Forwards both ways until one side ends or the connection is cut."""
        reader, writer = await asyncio.open_unix_connection(upstream)
        pumps = {
            asyncio.create_task(self._from_client(self._client[0], writer)),
            asyncio.create_task(self._from_server(reader, self._client[1])),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (writer, self._client[1]):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _from_client(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        # The first message has no kind.
        length = await reader.readexactly(4)
        first = await reader.readexactly(int.from_bytes(length) - 4)
        to.write(length + first)
        if int.from_bytes(first[:4]) == CANCEL_REQUEST:
            await reader.read()
        while True:
            kind, message, body = await _message(reader)
            text = self._statement(kind, body)
            cut = self._proxy._take(text) if text is not None else None
            if cut is Cut.BEFORE:
                return
            if cut is Cut.AFTER:
                self._swallow = True
            self._proxy.round_trips += kind in _ENDS_REQUEST
            to.write(message)
            await to.drain()

    async def _from_server(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while True:
            kind, message, body = await _message(reader)
            if kind == b"E":
                (state,) = [field[1:] for field in body.split(b"\0") if field[:1] == b"C"]
                self._proxy.errors[state.decode()] += 1
            if not self._swallow:
                to.write(message)
                await to.drain()
            elif kind == b"Z":  # ReadyForQuery: the server has done it
                return

    def _statement(self, kind: bytes, body: bytes) -> str | None:
        """Returns the SQL of a message that has one executed: a Query, or a Bind of a Parse."""
        if kind == b"P":
            name, sql, _ = body.split(b"\0", 2)
            self._prepared[name] = sql.decode()
        elif kind == b"B":
            return self._prepared.get(body.split(b"\0", 2)[1])
        elif kind == b"Q":
            return body.rstrip(b"\0").decode()
        return None


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes, bytes]:
    """Returns the kind of the next message, its bytes and its body; raises IncompleteReadError."""
    head = await reader.readexactly(5)
    body = await reader.readexactly(int.from_bytes(head[1:]) - 4)
    return head[:1], head + body, body
