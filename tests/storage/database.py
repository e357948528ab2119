"""PgDatabase, the use cases' context and rows to begin with, as the tests of storage/ need them."""

import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from asyncpg.connection import LoggedQuery
from pydantic import SecretStr

from watchword.audit.refusals import Refusals
from watchword.crypto import (
    CodeSource,
    KeyRing,
    new_id,
    new_nonce,
    new_user_id,
    random_key,
    slot_of_subject,
)
from watchword.limits.policy import LimitsPolicy
from watchword.login.context import LoginContext, LoginSettings
from watchword.login.failures import FailureCounter
from watchword.login.limits import Limits
from watchword.login.ports import Tx
from watchword.otp.model import NewChallenge, Purpose
from watchword.otp.policy import OtpPolicy
from watchword.sessions.first_use import FirstUses
from watchword.sessions.last_seen import LastSeen
from watchword.sessions.model import SessionPolicy
from watchword.storage.pool import Connection, DatabaseSettings, Isolation, Pool
from watchword.storage.transactions import PgDatabase, PgTx
from watchword.users.model import Registration

KEYS = KeyRing([(1, random_key())], random_key())
LIFETIME = timedelta(minutes=5)
HOUR = timedelta(hours=1)
NO_LIMITS = LimitsPolicy(enabled=False)


@asynccontextmanager
async def open_database(
    url: str,
    *,
    isolation: Isolation = "read_committed",
    query_logger: Callable[[LoggedQuery], None] | None = None,
    **settings: object,
) -> AsyncIterator[PgDatabase]:
    """A PgDatabase on a pool of its own; settings like pool_size=3 over the usual ones.

    A busy machine may take long to connect: only tests of `acquire_timeout` shorten it.
    """
    usual = {"url": SecretStr(url), "acquire_timeout": timedelta(seconds=30)}
    configured = DatabaseSettings.model_validate(usual | settings)
    pool = Pool(configured, isolation=isolation, query_logger=query_logger)
    await pool.open()
    try:
        yield PgDatabase(pool)
    finally:
        await pool.close()


def raw(tx: Tx) -> Connection:
    """The connection under a Tx, for statements that no store has."""
    assert isinstance(tx, PgTx)
    return tx._connection


async def _nothing() -> None:
    """What a server without stored keys does of them."""


def login_context(
    database: PgDatabase,
    *,
    keys: KeyRing = KEYS,
    refusals: Refusals | None = None,
    limits: LimitsPolicy = NO_LIMITS,
    mail_queued: Callable[[], None] = lambda: None,
    sessions: SessionPolicy | None = None,
) -> LoginContext:
    """What the use cases work with, at the settings' defaults but for the limits."""
    sessions = SessionPolicy() if sessions is None else sessions
    return LoginContext(
        database=database,
        keys=keys,
        otp=OtpPolicy(),
        sessions=sessions,
        settings=LoginSettings(),
        refusals=Refusals() if refusals is None else refusals,
        limits=Limits(database, keys, limits, Refusals()),
        failures=FailureCounter(database),
        first_uses=FirstUses(),
        last_seen=LastSeen(sessions.idle_lifetime),
        mail_queued=mail_queued,
        callers_changed=_nothing,
    )


def subject(name: str = "ada") -> bytes:
    """The subject key of `<name>@example.com`."""
    return KEYS.subject_key(f"{name}@example.com")


def new_registration(name: str = "ada", username: str | None = None) -> Registration:
    """A registration of `<name>@example.com`, not stored."""
    subject_key = subject(name)
    return Registration(
        id=new_id(slot_of_subject(subject_key)),
        subject_key=subject_key,
        user_id=new_user_id(),
        full_name=name.title(),
        username=username or name,
        email=f"{name}@example.com",
        locale="de",
    )


def new_challenge(name: str = "ada", *, form: int = 6, **signs_in: object) -> NewChallenge:
    """A sign-in challenge of `<name>@example.com`, not stored; a shadow unless told otherwise."""
    subject_key = subject(name)
    source = CodeSource(
        key_id=1,
        purpose=Purpose.SIGN_IN,
        challenge_id=new_id(slot_of_subject(subject_key)),
        subject_key=subject_key,
        nonce=new_nonce(),
    )
    return NewChallenge(source, form, LIFETIME, **signs_in)  # type: ignore[arg-type]  # ids


def events(log: io.StringIO, event: str) -> list[dict[str, object]]:
    """The records of this event."""
    records = [json.loads(line) for line in log.getvalue().splitlines()]
    return [record for record in records if record["event"] == event]
