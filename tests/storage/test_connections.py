"""The pool and a failing database: how many connections, how long a call waits, what it answers."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from urllib.parse import quote

import asyncpg
import pytest

from tests.storage.conftest import Connect
from tests.storage.database import KEYS, login_context, new_challenge, open_database, raw, subject
from tests.support.cutting_proxy import CuttingProxy
from tests.support.postgres import DatabaseServer, open_folder
from watchword.crypto import parse_code
from watchword.errors import Overloaded, StorageUnavailable, UsernameTaken
from watchword.login.ports import Tx
from watchword.login.register import RegisterCommand, register
from watchword.login.sessions import live_session
from watchword.login.verify_otp import VerifyOtpCommand, verify_otp
from watchword.sessions.model import Client
from watchword.storage.otp import source_of
from watchword.users.model import EmailAddress

Sql = asyncpg.Connection

OURS = "application_name = 'watchword' AND datname = current_database()"
SHORT = timedelta(milliseconds=200)


async def find_subject(tx: Tx) -> None:
    """Any statement on a table of the schema."""
    await tx.registrations.bind_newest(subject(), lifetime=timedelta(minutes=5))


async def ping(tx: Tx) -> int:
    """The smallest statement."""
    return await raw(tx).fetchval("SELECT 1")


async def seconds_until_unavailable(url: str, **settings: object) -> float:
    """Sees run_tx and run_statement refused; returns what the slower of them took."""
    slowest = 0.0
    async with open_database(url, **settings) as database:
        for run in (database.run_tx, database.run_statement):
            start = time.monotonic()
            with pytest.raises(StorageUnavailable):
                await run(find_subject)
            slowest = max(slowest, time.monotonic() - start)
    return slowest


async def test_a_backend_that_dies_in_a_transaction_is_unavailable(
    database_url: str, sql: Sql
) -> None:
    """The call whose connection died is told so, and the next one gets a new connection."""
    async with open_database(database_url, pool_size=1) as database:

        async def work(tx: Tx) -> None:
            await tx.roles.create("auditor", permissions=[])
            pid = await raw(tx).fetchval("SELECT pg_backend_pid()")
            await sql.execute("SELECT pg_terminate_backend($1)", pid)
            await ping(tx)

        with pytest.raises(StorageUnavailable):
            await database.run_tx(work)
        assert await database.run_tx(lambda tx: tx.roles.exists("auditor")) is False


@pytest.mark.parametrize("wait_seconds", [0, 0.05])
async def test_what_was_raised_outlives_the_connection(
    database_url: str, sql: Sql, wait_seconds: float
) -> None:
    """A call that was refused, or cancelled, is so even when its connection died under it.

    Guards the end of background tasks: one whose cancellation turned into an outage would go on.
    """
    async with open_database(database_url, pool_size=1) as database:

        async def work(tx: Tx, ending: BaseException) -> None:
            pid = await raw(tx).fetchval("SELECT pg_backend_pid()")
            await sql.execute("SELECT pg_terminate_backend($1)", pid)
            await asyncio.sleep(wait_seconds)
            raise ending

        for ending in (UsernameTaken(), asyncio.CancelledError()):
            with pytest.raises(type(ending)):
                await database.run_tx(lambda tx, ending=ending: work(tx, ending))
        assert await database.run_tx(ping) == 1


async def test_connections_that_died_idle_are_replaced(database_url: str, sql: Sql) -> None:
    """After a fail-over that ended every connection, calls succeed at once."""
    async with open_database(database_url, pool_size=3) as database:
        await asyncio.gather(*(database.run_tx(ping) for _ in range(6)))
        await sql.fetch(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")
        while await sql.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}"):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert await asyncio.gather(*(database.run_tx(ping) for _ in range(6))) == [1] * 6


async def test_a_slow_statement_is_unavailable(database_url: str) -> None:
    """PostgreSQL itself ends a statement after `statement_timeout`; the connection stays."""
    async with open_database(database_url, pool_size=1, statement_timeout=SHORT) as database:
        start = time.monotonic()
        for run in (database.run_tx, database.run_statement):
            with pytest.raises(StorageUnavailable) as caught:
                await run(lambda tx: raw(tx).execute("SELECT pg_sleep(30)"))
            assert isinstance(caught.value.__cause__, asyncpg.QueryCanceledError)
        assert time.monotonic() - start < 5
        assert await database.run_tx(ping) == 1


async def test_every_connection_is_set_up(database_url: str) -> None:
    """The bounds that keep a lost client from holding locks are set on each connection."""
    names = ["statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout", "TimeZone"]

    async def settings(tx: Tx) -> list[str]:
        return [await raw(tx).fetchval("SELECT current_setting($1)", name) for name in names]

    async with open_database(database_url) as database:
        assert await database.run_tx(settings) == ["2s", "10s", "0", "UTC"]


async def test_no_free_connection_is_overload(database_url: str) -> None:
    """A call waits for `acquire_timeout` and no longer, and those that had one finish.

    Overload is when others are being answered; when nobody is, the database is unavailable.
    """
    async with open_database(database_url, pool_size=2, acquire_timeout=SHORT) as database:
        finish = asyncio.Event()

        async def work(tx: Tx, end: Awaitable[object]) -> int:
            await end
            return await ping(tx)

        def start(end: Awaitable[object]) -> asyncio.Task[int]:
            return asyncio.create_task(database.run_tx(lambda tx: work(tx, end)))

        stuck = start(finish.wait())
        others = [start(asyncio.sleep(0.15)), start(asyncio.sleep(1))]
        await asyncio.sleep(0)
        began = time.monotonic()
        with pytest.raises(Overloaded):
            await database.run_statement(ping)
        with pytest.raises(StorageUnavailable):
            await database.run_tx(ping)
        assert 0.4 <= time.monotonic() - began < 2
        finish.set()
        assert await asyncio.gather(stuck, *others) == [1, 1, 1]
        assert await database.run_tx(ping) == 1


async def test_a_line_that_is_too_long_is_refused_at_once(database_url: str) -> None:
    """At the pace of the last answers the call would wait for longer than `acquire_timeout`.

    With 2 connections lent for 0.1 s each, 0.2 s are 4 in the line: of 20 at once at most 6 or so
    are answered, and none of the refused has waited in vain.
    """
    wait = timedelta(milliseconds=200)
    async with open_database(database_url, pool_size=2, acquire_timeout=wait) as database:

        async def slow() -> str:
            try:
                await database.run_statement(lambda tx: raw(tx).fetchval("SELECT pg_sleep(0.1)"))
            except Overloaded:
                return "refused"
            return "answered"

        for _ in range(30):
            assert await slow() == "answered"
        tasks = [asyncio.create_task(slow()) for _ in range(20)]
        await asyncio.sleep(0.03)
        outcomes = [task.result() for task in tasks if task.done()]
        assert len(outcomes) >= 12
        assert set(outcomes) == {"refused"}
        assert (await asyncio.gather(*tasks)).count("answered") >= 2


@pytest.fixture
async def missing_server() -> AsyncIterator[dict[str, str]]:
    """URLs where no PostgreSQL answers."""
    with open_folder() as folder, socket.create_server(("127.0.0.1", 0)) as taken:
        silent = await asyncio.start_unix_server(_say_nothing, folder / ".s.PGSQL.5433")
        async with silent:
            host = quote(str(folder), safe="")
            port = taken.getsockname()[1]
            taken.close()
            yield {
                "no socket": f"postgresql://postgres@/watchword?host={host}&port=5432",
                "refused": f"postgresql://postgres@127.0.0.1:{port}/watchword",
                "silent": f"postgresql://postgres@/watchword?host={host}&port=5433",
            }


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@pytest.mark.parametrize("place", ["no socket", "refused", "silent"])
async def test_a_missing_server_is_unavailable(missing_server: dict[str, str], place: str) -> None:
    """No server, or one that accepts and says nothing, is told within `acquire_timeout`."""
    assert await seconds_until_unavailable(missing_server[place], acquire_timeout=SHORT) < 2


async def test_a_missing_schema_is_unavailable(empty_database_url: str) -> None:
    """A program that starts before `migrate` was run answers UNAVAILABLE until it was."""
    await seconds_until_unavailable(empty_database_url)


@pytest.mark.parametrize(
    "change", ["ALTER TABLE registrations DROP COLUMN locale", "DROP TABLE registrations"]
)
async def test_a_schema_of_another_program_is_unavailable(
    own_database_url: str, change: str
) -> None:
    """A table or column that a newer program took away is an outage, and no defect of the call."""
    connection = await asyncpg.connect(own_database_url)
    await connection.execute(change)
    await connection.close()
    await seconds_until_unavailable(own_database_url)


async def test_a_missing_database_is_unavailable(
    postgres: DatabaseServer, database_url: str
) -> None:
    """A database name or user that is not there is the operator's to mend."""
    no_database = postgres.postgres.url("no_such_database")
    no_user = database_url.replace("postgres@", "nobody-we-know@")
    for url in (no_database, no_user):
        await seconds_until_unavailable(url)


async def test_many_sign_ins_share_few_connections(
    database_url: str, sql: Sql, connect: Connect
) -> None:
    """Guards one connection a call: a call that asked the pool for a second while it holds one
    would end in a deadlock of all, for 60 at once on 3.
    """
    peak = 0
    watcher = await connect()

    async def watch() -> None:
        nonlocal peak
        while True:
            count = await watcher.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}")
            peak = max(peak, count)
            await asyncio.sleep(0.005)

    async with open_database(database_url, pool_size=3) as database:
        ctx = login_context(database)

        async def sign_in(number: int) -> str:
            email = EmailAddress(f"p{number}@example.com", f"p{number}@example.com")
            command = RegisterCommand(
                full_name="P",
                username=f"person{number}",
                email=email,
                locale=None,
                send_otp=True,
                client=Client(),
            )
            registered = await register(ctx, command)
            assert registered.challenge is not None
            row = await row_of(sql, registered.challenge.id)
            code = parse_code(KEYS.derive_code(source_of(row), length=6).reveal())
            assert code is not None
            right = VerifyOtpCommand(target=registered.challenge.id, code=code, client=Client())
            answer = await verify_otp(ctx, right)
            return await whose(answer.token.reveal())

        async def whose(token: str) -> str:
            while True:
                # An answer that had to wait in line for a second is refused for its age.
                with contextlib.suppress(StorageUnavailable):
                    return (await live_session(ctx, token)).user.username

        one_at_a_time = asyncio.Lock()

        async def row_of(connection: Sql, challenge_id: object) -> asyncpg.Record:
            async with one_at_a_time:
                return await connection.fetchrow(
                    "SELECT id AS challenge_id, purpose, subject_key, nonce, key_id"
                    " FROM challenges WHERE id = $1",
                    challenge_id,
                )

        watching = asyncio.create_task(watch())
        try:
            async with asyncio.timeout(30):
                names = await asyncio.gather(*map(sign_in, range(60)))
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    assert names == [f"person{number}" for number in range(60)]
    assert 1 <= peak <= 3
    assert await sql.fetchval("SELECT count(*) FROM sessions") == 60


async def test_a_call_costs_no_round_trip_but_its_own(database_url: str) -> None:
    """Guards the hot path: taking and giving back a connection sends nothing, a transaction adds
    BEGIN and COMMIT.
    """
    challenge_id = new_challenge().source.challenge_id

    async def work(tx: Tx) -> bool:
        return await tx.challenges.exists(challenge_id)

    async with (
        CuttingProxy(database_url) as proxy,
        open_database(proxy.url, pool_size=1) as database,
    ):
        await database.run_statement(work)  # prepares the statement
        for run, round_trips in ((database.run_statement, 1), (database.run_tx, 3)):
            before = proxy.round_trips
            for _ in range(10):
                await run(work)
            await asyncio.sleep(0.05)
            assert proxy.round_trips - before == 10 * round_trips
