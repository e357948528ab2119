"""Three servers of one installation as real processes, and what is seen of them from outside."""

import asyncio
import contextlib
import itertools
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import asyncpg

from tests.support import server_at
from tests.support.age import age
from tests.support.processes import WatchwordProcess, watchword
from tests.support.running import MailFolder, installation_environment
from watchword.config import load_config
from watchword.crypto import CodeSource, KeyRing
from watchword.storage.pool import Isolation
from watchword_client import AsyncClient, Overloaded
from watchword_client import resources_pb2 as pb

REPLICAS = 3
REGISTER_TRIES = 5
SOURCE = """
    SELECT key_id, purpose, id, subject_key, nonce, code_form FROM challenges WHERE id = $1
"""


@dataclass(frozen=True)
class Person:
    """Somebody who has registered and was sent a code."""

    username: str
    email: str
    challenge_id: str
    code: str


class Replicas:
    """The servers of one installation; `stop` or `kill` them and `start` them again."""

    def __init__(
        self, database_url: str, folder: Path, isolation: Isolation, count: int = REPLICAS
    ) -> None:
        self.database_url = database_url
        self.servers: list[WatchwordProcess] = []
        self.clients: list[AsyncClient] = []
        self.environment: dict[str, str] = {}
        self.mails = MailFolder(folder / "mail")
        self._isolation = isolation
        self._count = count
        self._notes = folder / "compared"
        self._noted = 0
        self._numbers = itertools.count(1)
        self._running = contextlib.AsyncExitStack()
        self._statements: asyncpg.Pool | None = None

    @property
    def keys(self) -> KeyRing:
        """The installation's keys."""
        return load_config(self.environment).secrets.key_ring()

    async def open(self, **settings: str) -> None:
        """Makes the installation and starts its servers; settings like OTP__CODE_LENGTH."""
        self.mails.folder.mkdir()
        self._notes.touch()
        self.environment = installation_environment(
            self.database_url, self.mails.folder, **settings
        )
        self._statements = await asyncpg.create_pool(self.database_url, min_size=1, max_size=4)
        await self.start()

    async def close(self) -> None:
        """Stops everything."""
        await self.stop()
        if self._statements is not None:
            await self._statements.close()

    async def start(self) -> None:
        """Starts the servers, at once and on new ports."""

        async def one() -> WatchwordProcess:
            return await self._running.enter_async_context(self.one_more())

        async with asyncio.TaskGroup() as starting:
            tasks = [starting.create_task(one()) for _ in range(self._count)]
        self.servers = [task.result() for task in tasks]
        self.clients = [
            await self._running.enter_async_context(server.client()) for server in self.servers
        ]

    def one_more(self, **settings: str) -> contextlib.AbstractAsyncContextManager[WatchwordProcess]:
        """Runs a server of the installation beside the others, with settings of its own."""
        program = [sys.executable, "-P", server_at.__file__, self._isolation, str(self._notes)]
        own = {f"WATCHWORD_{name}": value for name, value in settings.items()}
        return watchword("serve", env={**self.environment, **own}, program=program)

    async def stop(self) -> None:
        """Ends the servers by SIGTERM."""
        self.servers, self.clients = [], []
        await self._running.aclose()

    async def kill(self) -> None:
        """Ends the servers by SIGKILL."""
        for server in self.servers:
            server.process.kill()
        for server in self.servers:
            await server.process.wait()
        await self.stop()

    async def sql(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Runs a statement."""
        assert self._statements is not None, "`open` comes first"
        found: list[asyncpg.Record] = await self._statements.fetch(statement, *arguments)
        return found

    async def age(self, **by: float) -> None:
        """Makes every row older, by hours=24 for example."""
        await age(self.database_url, timedelta(**by))

    def new_name(self) -> str:
        """Returns a username that nobody has had."""
        return f"person{next(self._numbers)}"

    async def newcomer(self, *, client: pb.ClientContext | None = None) -> Person:
        """Registers somebody new, who is sent a code."""
        name = self.new_name()
        email = f"{name}@example.com"
        for left in reversed(range(REGISTER_TRIES)):
            try:
                registered = await self.clients[0].register(
                    full_name="Person", username=name, email=email, send_otp=True, client=client
                )
                break
            except Overloaded:
                # A limit that a busy machine could not look at in time.
                if left == 0:
                    raise
                await asyncio.sleep(1)
        challenge = registered.challenge.id
        return Person(name, email, challenge, await self.code_of(challenge))

    async def code_of(self, challenge_id: str) -> str:
        """Derives the code of a challenge, as the dispatcher does for its mail; faster than that.

        Tests of single codes read the mail.
        """
        (row,) = await self.sql(SOURCE, UUID(challenge_id))
        source = CodeSource(
            row["key_id"], row["purpose"], row["id"], row["subject_key"], row["nonce"]
        )
        return self.keys.derive_code(source, length=row["code_form"]).reveal()

    def compared(self) -> list[tuple[str, str]]:
        """Returns each (challenge, code) that the servers have compared since the last call."""
        with self._notes.open() as notes:
            notes.seek(self._noted)
            lines = notes.read().splitlines()
            self._noted = notes.tell()
        return [(challenge, code) for challenge, code in map(str.split, lines)]


@contextlib.asynccontextmanager
async def replicas_on(
    database_url: str,
    *,
    isolation: Isolation = "read_committed",
    count: int = REPLICAS,
    **settings: str,
) -> AsyncIterator[Replicas]:
    """Runs three servers or `count` on a migrated database; settings like OTP__CODE_LENGTH="10"."""
    with tempfile.TemporaryDirectory(prefix="watchword-replicas-") as folder:
        replicas = Replicas(database_url, Path(folder), isolation, count)
        try:
            await replicas.open(**settings)
            yield replicas
        finally:
            await replicas.close()
