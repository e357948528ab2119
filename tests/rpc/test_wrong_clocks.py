"""A host whose clock is an hour off decides as every other: lifetimes are the database's (threats
row 34).
"""

import itertools
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

import watchword
from tests.support.age import age
from tests.support.processes import watchword as watchword_process
from tests.support.replicas import Replicas, replicas_on
from watchword_client import AsyncClient, OtpInvalid, ReauthenticationNeeded, SessionInvalid
from watchword_client import auth_service_pb2 as pb

ROOT = Path(__file__).parents[2]
# Debian's package libfaketime; WATCHWORD_TEST_FAKETIME names one that is elsewhere.
FAKETIME = [
    *filter(None, [os.environ.get("WATCHWORD_TEST_FAKETIME")]),
    *map(str, Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")),
]
OFF = {"an hour ahead": "+1h", "an hour behind": "-1h"}
MILLISECOND, MINUTE = timedelta(milliseconds=1), timedelta(minutes=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Longer than the four sign-ins of the test take, by the rows' ages.
RECENT = 40 * MINUTE

# What reads the wall clock, in Python and in Rust, by the file that may: device tokens for
# convenience alone, the doctor to compare, the log; and ids, whose milliseconds nothing compares.
PYTHON_READS = re.compile(
    r"time\.time(_ns)?\(|\.(now|utcnow|today)\((UTC|tz|timezone|\))|CLOCK_REALTIME|localtime\("
    r"|gmtime\(|strftime\(|formatdate\(|TimeStamper\("
)
RUST_READS = re.compile(r"SystemTime|UNIX_EPOCH|Realtime|REALTIME|chrono::|OffsetDateTime")
MAY_READ = {
    "service/watchword/login/devices.py",
    "service/watchword/doctor/database.py",
    "service/watchword/observability/logging.py",
    "rust_core/core/src/secret.rs",
}


def reads(text: str, pattern: re.Pattern[str]) -> bool:
    """Whether a source reads the wall clock; the database's and the loop's have the name too."""
    return pattern.search(re.sub(r"\b(self|inspection|_gate|_line)\.now\(\)", "", text)) is not None


def test_nothing_that_decides_reads_the_wall_clock() -> None:
    """In the service and in the Rust core; ruff bans the Python calls besides.

    Seen to fail with a `time.time()` in sessions.py.
    """
    python = Path(watchword.__file__).parent.rglob("*.py")
    rust = (ROOT / "rust_core").glob("*/src/**/*.rs")
    found = {path for path in python if reads(path.read_text(), PYTHON_READS)}
    found |= {path for path in rust if reads(path.read_text(), RUST_READS)}
    assert {str(path.relative_to(ROOT)) for path in found} == MAY_READ


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (PYTHON_READS, "at = time.time()"),
        (PYTHON_READS, "at = time.time_ns()"),
        (PYTHON_READS, "at = datetime.now(UTC)"),
        (PYTHON_READS, "at = datetime.datetime.now(tz=timezone.utc)"),
        (PYTHON_READS, "at = datetime.utcnow()"),
        (PYTHON_READS, "time.clock_gettime(time.CLOCK_REALTIME)"),
        (RUST_READS, "let at = SystemTime::now();"),
        (RUST_READS, "clock_gettime(ClockId::Realtime)"),
    ],
)
def test_a_read_is_found(pattern: re.Pattern[str], text: str) -> None:
    """By any of the ways there are."""
    assert reads(text, pattern)
    assert not reads("seconds = boottime_ns() + loop.time()", pattern)


@pytest.fixture(params=OFF)
async def clients(
    database_url: str, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Replicas, list[AsyncClient]]]:
    """A server whose clock is right, and one whose clock is not."""
    if not FAKETIME:
        pytest.skip("there is no libfaketime: apt-get install libfaketime")
    clock = {
        "LD_PRELOAD": FAKETIME[0],
        "FAKETIME": OFF[request.param],
        # The clocks that count from the start of the host go on as they do.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    settings = {"SESSION__IDLE_LIFETIME": "60d", "SESSION__RECENT_AUTHENTICATION": "40m"}
    async with AsyncExitStack() as stack:
        replicas = await stack.enter_async_context(replicas_on(database_url, count=1, **settings))
        env = {**replicas.environment, **clock}
        other = await stack.enter_async_context(watchword_process("serve", env=env))
        client = await stack.enter_async_context(other.client())
        yield replicas, [replicas.clients[0], client]


async def is_live(client: AsyncClient, token: str) -> bool:
    """What a check says of it."""
    try:
        await client.validate_session(token)
    except SessionInvalid:
        return False
    return True


def milliseconds(id: str) -> int:
    """What the clock said of the host that has made the id."""
    return UUID(id).int >> 80


async def test_a_wrong_clock_decides_nothing(
    clients: tuple[Replicas, list[AsyncClient]],
) -> None:
    """Codes and sessions that either server has made are good at both until a moment before their
    end, and at neither from then on; so is a recent sign-in.

    One hour ahead and one behind; skipped where there is no libfaketime. Seen to fail with
    the age of a sign-in counted by the host's clock.
    """
    replicas, both = clients
    pairs = itertools.product(both, both)
    sessions = [await _signed_in(replicas, made, checked) for made, checked in pairs]
    ids = [session.session.id for session in sessions]
    assert abs(milliseconds(ids[0]) - milliseconds(ids[1])) > HOUR / MILLISECOND / 2
    tokens = [
        (await client.refresh_session(session.session_token)).session_token
        for session, client in zip(sessions, both * 2, strict=True)
    ]
    for client in both:
        assert [await _recent(client, token) for token in tokens] == [True] * 4
    await age(replicas.database_url, RECENT)
    for client in both:
        assert [await _recent(client, token) for token in tokens] == [False] * 4
    await age(replicas.database_url, 30 * DAY - RECENT - HOUR)
    for client in both:
        assert [await is_live(client, token) for token in tokens] == [True] * 4
    await age(replicas.database_url, HOUR)
    for client in both:
        assert [await is_live(client, token) for token in tokens] == [False] * 4


async def _signed_in(
    replicas: Replicas, made: AsyncClient, checked: AsyncClient
) -> pb.VerifyOtpResponse:
    """Registers at one server and signs in at the other, late, and a moment later not."""
    name = replicas.new_name()
    email = f"{name}@example.com"
    registered = await made.register(full_name="P", username=name, email=email, send_otp=True)
    early = registered.challenge.id
    code = await replicas.code_of(early)
    await age(replicas.database_url, 5 * MINUTE - timedelta(seconds=30))
    signed_in = await checked.verify_otp(challenge_id=early, code=code)
    late = (await made.send_otp(email=email)).challenge.id
    code = await replicas.code_of(late)
    await age(replicas.database_url, 5 * MINUTE)
    with pytest.raises(OtpInvalid):
        await checked.verify_otp(challenge_id=late, code=code)
    return signed_in


async def _recent(client: AsyncClient, token: str) -> bool:
    """Whether the sign-in is as recent as that, by both calls that ask; they have to agree."""
    answers = []
    for call in (
        client.validate_session(token, max_auth_age=RECENT),
        client.start_email_change(token, new_email="new@example.com"),
    ):
        try:
            await call
            answers.append(True)
        except ReauthenticationNeeded:
            answers.append(False)
    assert len(set(answers)) == 1
    return answers[0]
