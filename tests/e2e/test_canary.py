"""What was issued is nowhere but with the person: not in the database, not in any log."""

import asyncio
import base64
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from tests.e2e.leaks import CODE_LENGTH, Canaries
from tests.races.bursts import FULL
from tests.support.processes import WatchwordProcess, run, watchword
from tests.support.running import code_of
from watchword.dev.postgres_binaries import find_binaries
from watchword_client import (
    AsyncClient,
    OtpInvalid,
    RequestInvalid,
    SessionInvalid,
    resources_pb2,
)

SIGN_INS = 1_000 if FULL else 200
AT_ONCE = 16
MAIL_WAIT_SECONDS = 120.0
ENVIRONMENT = {
    "WATCHWORD_OTP__CODE_LENGTH": str(CODE_LENGTH),
    "WATCHWORD_OTP__LIFETIME": "10m",
    "WATCHWORD_LOG__LEVEL": "debug",
    "WATCHWORD_MAIL__SENDERS": "file",
}


async def spread(work: Callable[[int], Awaitable[None]], numbers: Iterable[int]) -> None:
    """Does the work for each number, a few at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with places:
            await work(number)

    await asyncio.gather(*map(one, numbers))


async def log_everything(server: WatchwordProcess) -> Path:
    """Has PostgreSQL log every statement with its parameters; returns the path of its log."""
    await server.sql("ALTER SYSTEM SET log_statement = 'all'")
    await server.sql("SELECT pg_reload_conf()")
    (row,) = await server.sql("SHOW data_directory")
    return Path(row[0], "server.log")


async def all_codes(server: WatchwordProcess, count: int) -> dict[str, str]:
    """Returns the code by address, once so many mails are there."""
    async with asyncio.timeout(MAIL_WAIT_SECONDS):
        while len(list(server.mails.folder.glob("*.eml"))) < count:
            await asyncio.sleep(0.1)
    return {mail["To"]: code_of(mail) for mail in server.mails.all()}


async def sign_everybody_in(server: WatchwordProcess, client: AsyncClient) -> Canaries:
    """Signs 200 (1,000) people in and half of them out, with some misuse by the way."""
    challenges: dict[int, str] = {}
    issued = Canaries()

    async def register(number: int) -> None:
        answer = await client.register(
            full_name="Person",
            username=f"person{number}",
            email=f"person{number}@example.com",
            send_otp=True,
        )
        challenges[number] = answer.challenge.id

    await spread(register, range(SIGN_INS))
    codes = await all_codes(server, SIGN_INS)
    issued.codes.update(codes.values())

    async def sign_in(number: int) -> None:
        email = f"person{number}@example.com"
        code, other = codes[email], codes[f"person{(number + 1) % SIGN_INS}@example.com"]
        with pytest.raises(OtpInvalid):
            await client.verify_otp(challenge_id=challenges[number], code=other)
        with pytest.raises(RequestInvalid):
            await client.verify_otp(challenge_id=code, code=f"{code}{code}")
        signed_in = await client.verify_otp(challenge_id=challenges[number], code=code)
        token = signed_in.session_token
        issued.tokens.add(token)
        device_token = signed_in.device_token
        issued.device_tokens.add(device_token)
        known = resources_pb2.ClientContext(device_token=device_token)
        await client.send_otp(email=email, client=known)
        with pytest.raises(OtpInvalid):
            await client.verify_otp(email=email, code=code, client=known)
        with pytest.raises(OtpInvalid):
            await client.verify_otp(challenge_id=challenges[number], code=code, client=known)
        too_long = resources_pb2.ClientContext(device_token=6 * device_token)
        with pytest.raises(RequestInvalid):
            await client.send_otp(email=email, client=too_long)
        await client.validate_session(token)
        with pytest.raises(SessionInvalid):
            await client.validate_session(f"{token[:-1]}{'A' if token[-1] != 'A' else 'B'}")
        # The secret where no secret belongs: what is refused must not be repeated in the log.
        with pytest.raises(RequestInvalid):
            await client.get_roles(user_id=token)
        with pytest.raises(RequestInvalid):
            await client.send_otp(email=token)
        with pytest.raises(RequestInvalid):
            await client.get_roles(user_id=device_token)
        if number % 2:
            await client.revoke(token)

    await spread(sign_in, range(SIGN_INS))
    assert len(issued.tokens) == len(issued.device_tokens) == SIGN_INS
    return issued


async def dump(server: WatchwordProcess) -> str:
    """Returns what pg_dump says of the database."""
    program = [str(find_binaries().folder / "pg_dump")]
    done = await run("--inserts", server.ready["database_url"], program=program)
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(600)
async def test_no_code_and_no_token_is_stored_or_logged() -> None:
    """After 200 sign-ins (in full 1,000) no code and no token is in pg_dump or in any debug log.

    The logs are the server's at level debug and PostgreSQL's with every statement and parameter.
    Seen to fail with the code logged by MailDispatcher, with the token logged by the pipeline, and
    with the device token logged by VerifyOtp or kept with its challenge.
    """
    with tempfile.TemporaryDirectory(prefix="watchword-mail-") as mail_dir:
        arguments = ("dev", "--ephemeral", "--mail-dir", mail_dir)
        async with watchword(*arguments, env=ENVIRONMENT) as server, server.client() as client:
            postgres_log = await log_everything(server)
            issued = await sign_everybody_in(server, client)
            dumped = await dump(server)
            logged, statements = server.log(), postgres_log.read_text(errors="replace")
    # It was looked at what there is to see.
    assert dumped.count("INSERT INTO public.sessions ") == SIGN_INS
    assert dumped.count("INSERT INTO public.challenges ") == 2 * SIGN_INS
    assert dumped.count("INSERT INTO public.subject_budgets ") == 2 * SIGN_INS
    assert dumped.count("INSERT INTO public.audit_events ") >= SIGN_INS + SIGN_INS // 2
    assert logged.count('"method": "watchword.v1.AuthService/VerifyOtp"') == 5 * SIGN_INS
    assert statements.count("INSERT INTO sessions ") == SIGN_INS
    assert issued.found_in(dumped) == set()
    assert issued.found_in(logged) == set()
    assert issued.found_in(statements) == set()


TOKEN = "ww_AQGiBMIIhI8zh1x604EEDL-gYL_Ls26zmGWGdVeYDoN1BrRG0CjCDFgVOiJOMTVjIDni-O8Br9yR"

DEVICE_TOKEN = "wwd_AQAGRDe6UKAAAAZEN7pQoAA5tx7Ra2amr1Z100xoiEgO"


@pytest.mark.parametrize(
    "text",
    [
        "0123456789",
        '{"event": "mail sent", "code": "0123456789"}',
        "otp=0123456789,",
        "Subject: 0123456789 is your code",
        "012 345 6789",
        "01234-56789",
    ],
)
def test_the_search_finds_codes(text: str) -> None:
    """A planted code is found, in the forms that people and programs write."""
    issued = Canaries(codes={"0123456789", "9876543210"})
    assert issued.found_in(f"some line\n{text}\nanother line") == {"0123456789"}


def test_the_search_finds_tokens() -> None:
    """A planted token is found whole, without its prefix, as its secret, in base64 and in hex."""
    issued = Canaries(tokens={TOKEN})
    secret = TOKEN[3:][24:64]
    for text in (
        f'{{"token": "{TOKEN}"}}',
        TOKEN[3:],
        secret,
        f"x{secret}y",
        secret.replace("-", "+").replace("_", "/"),
    ):
        assert issued.found_in(f"a line\n{text}\n") == {TOKEN}


def test_the_search_finds_secrets_in_hexadecimal() -> None:
    """A planted secret is found as PostgreSQL prints bytes."""
    issued = Canaries(tokens={TOKEN})
    raw = base64.urlsafe_b64decode(TOKEN[3:])
    assert issued.found_in(f"'\\x{raw[17:49].hex()}'") == {TOKEN}
    assert issued.found_in(f"'\\x{raw.hex().upper()}'") == {TOKEN}


def test_the_search_finds_device_tokens() -> None:
    """A planted device token is found whole, without its prefix, by its tag alone, and in hex."""
    issued = Canaries(device_tokens={DEVICE_TOKEN})
    raw = base64.urlsafe_b64decode(DEVICE_TOKEN[4:])
    tag = DEVICE_TOKEN[-20:]
    for text in (DEVICE_TOKEN, DEVICE_TOKEN[4:], f"x{tag}y", raw.hex(), raw[17:].hex().upper()):
        assert issued.found_in(f"a line\n{text}\n") == {DEVICE_TOKEN}
    assert issued.found_in(f"{DEVICE_TOKEN[:-1]} {tag[1:]} {raw[19:].hex()}") == set()


def test_the_search_finds_nothing_in_other_text() -> None:
    """Longer numbers, cut tokens and ids are no hits."""
    issued = Canaries(codes={"0123456789"}, tokens={TOKEN})
    assert issued.found_in(f"10123456789 01234567890 {TOKEN[:26]} {TOKEN[-20:]}") == set()
