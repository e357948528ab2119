"""The load generator for sign-ins: a process that reads a job and prints a result.

A sign-in is SendOtp, the arrival of the mail's file, then VerifyOtp by challenge id: nobody types
a code before its mail is there, and a challenge used up earlier would spare the server the mail.
The code is derived, not read from the mail: from the key ring in the ready file and the challenge's
row, over a connection of its own, whose backend counts in no CPU time.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import SecretStr

from benchmarks.closed_loop import closed_loop, percentile
from benchmarks.cpu import child_named, family_seconds, process_seconds
from watchword.crypto import CodeSource
from watchword.keyring import SecretsSettings
from watchword_client import AsyncClient

TIMEOUT_SECONDS = 20.0
DRAIN_SECONDS = 30.0
MAIL_POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInJob:
    """How many people sign in, each with an address of its own; with `register` they register.

    `ready` is what the ready file of the server holds; the session tokens of the first `tokens`
    people come back.
    """

    ready: dict[str, Any]
    register: bool
    tokens: int
    concurrency: int
    count: int
    seconds_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInResult:
    """What one run measured; CPU is milliseconds a sign-in, mail work included.

    The latencies are SendOtp and VerifyOtp together, without what was between: `mail` is the wait
    from SendOtp's answer to the mail's file, the look-up included.
    """

    sign_ins: int
    sign_ins_per_second: float
    p50_ms: float
    p99_ms: float
    server_ms: float
    postgres_ms: float
    mail_p50_ms: float
    mails: float
    tokens: list[str]
    postgres_version: str


class Codes:
    """Derives codes as the mail dispatcher does, and sees when mails are there."""

    _ROW = """
        SELECT c.purpose, c.subject_key, c.nonce, c.key_id, c.code_form, o.id AS outbox_id
        FROM challenges AS c
        JOIN outbox AS o ON o.slot = c.slot AND o.challenge_id = c.id
        WHERE c.slot = $1 AND c.id = $2
    """
    # `state` of the mails of this run, queued no earlier than it began.
    _MAILS = "SELECT count(*) FROM outbox WHERE state = $1 AND create_time >= $2"

    def __init__(self, connection: asyncpg.Connection, ready: dict[str, Any]) -> None:
        environment = ready["env"]
        self._connection = connection
        self._mail_dir = Path(ready["mail_dir"])
        self._turn = asyncio.Lock()
        self._keys = SecretsSettings(
            keys=SecretStr(environment["WATCHWORD_SECRETS__KEYS"]),
            index_key=SecretStr(environment["WATCHWORD_SECRETS__INDEX_KEY"]),
        ).key_ring()

    async def mailed_code(self, challenge_id: str) -> str:
        """Returns the code of a challenge once the file of its mail is there."""
        id = UUID(challenge_id)
        async with self._turn:
            row = await self._connection.fetchrow(self._ROW, id.int & 0xFFF, id)
        assert row is not None  # SendOtp answers after its commit
        mail = self._mail_dir / f"{row['outbox_id']}.eml"
        async with asyncio.timeout(DRAIN_SECONDS):
            while not mail.exists():
                await asyncio.sleep(MAIL_POLL_SECONDS)
        source = CodeSource(row["key_id"], row["purpose"], id, row["subject_key"], row["nonce"])
        return self._keys.derive_code(source, length=row["code_form"]).reveal()

    async def mails_sent(self, began: datetime) -> int:
        """Waits until no mail is pending and returns how many were sent."""
        async with asyncio.timeout(DRAIN_SECONDS):
            while await self._connection.fetchval(self._MAILS, "pending", began):
                await asyncio.sleep(0.1)
        sent: int = await self._connection.fetchval(self._MAILS, "sent", began)
        return sent


async def run(job: SignInJob) -> SignInResult:
    """Signs in; every answer but OK ends the run with its error."""
    ready = job.ready
    tokens: dict[int, str] = {}
    mail_seconds: list[float] = []
    connection = await asyncpg.connect(ready["database_url"])
    client = AsyncClient(ready["api"], service_key=ready["service_key"], timeout=TIMEOUT_SECONDS)
    try:
        codes = Codes(connection, ready)
        postgres, own = child_named(ready["pid"], "postgres"), connection.get_server_pid()

        async def ask(number: int) -> str:
            email = f"person{number}@example.com"
            if not job.register:
                return (await client.send_otp(email=email)).challenge.id
            answer = await client.register(
                full_name="Ada Lovelace", username=f"person{number}", email=email, send_otp=True
            )
            return answer.challenge.id

        async def sign_in(number: int) -> float:
            started = time.perf_counter()
            challenge_id = await ask(number)
            asked = time.perf_counter()
            code = await codes.mailed_code(challenge_id)
            mailed = time.perf_counter()
            answer = await client.verify_otp(challenge_id=challenge_id, code=code)
            ended = time.perf_counter()
            tokens[number] = answer.session_token
            mail_seconds.append(mailed - asked)
            return asked - started + ended - mailed

        def cpu() -> tuple[float, float]:
            return process_seconds(ready["pid"]), family_seconds(postgres, without=(own,))

        began = await connection.fetchval("SELECT now()")
        before = cpu()
        outcome = await closed_loop(
            sign_in, concurrency=job.concurrency, count=job.count, seconds_max=job.seconds_max
        )
        mails = await codes.mails_sent(began)
        after = cpu()
        version = await connection.fetchval("SHOW server_version")
    finally:
        await client.close()
        await connection.close()

    done = len(outcome.latencies_seconds)
    server, database = [(b - a) / done * 1000 for a, b in zip(before, after, strict=True)]
    return SignInResult(
        sign_ins=done,
        sign_ins_per_second=done / outcome.elapsed_seconds,
        p50_ms=percentile(outcome.latencies_seconds, 50) * 1000,
        p99_ms=percentile(outcome.latencies_seconds, 99) * 1000,
        server_ms=server,
        postgres_ms=database,
        mail_p50_ms=percentile(mail_seconds, 50) * 1000,
        mails=mails / done,
        tokens=[tokens[number] for number in range(job.tokens)],
        postgres_version=version,
    )


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(run(SignInJob(**json.load(sys.stdin)))))))
