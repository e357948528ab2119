"""Users as lines of JSON: what is read, what is refused and with which words."""

import io
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watchword.errors import ValueRejected
from watchword.login.user_lines import (
    LINE_BYTES_MAX,
    RoleLine,
    is_blank,
    lines_of,
    parsed,
    written,
)
from watchword.roles.model import Assignment
from watchword.users.model import EmailAddress, User, UserState

ID = "0190b2c4-6f1e-8a3d-9c5b-7e2f1a4d8c06"
ADA = {"username": "ada", "full_name": "Ada", "email": "ada@example.com"}
NOON = datetime(2027, 1, 31, 12, tzinfo=UTC)


def line(**fields: Any) -> bytes:
    """Ada's line with these fields; None takes one away."""
    present = {name: value for name, value in (ADA | fields).items() if value is not ...}
    return json.dumps(present).encode()


def problem(text: bytes | None) -> str:
    """Why a line is refused."""
    with pytest.raises(ValueRejected) as refused:
        parsed(text)
    return str(refused.value)


def test_the_least_that_a_line_has() -> None:
    """An id is made, each time another; nothing else is thought up."""
    first, second = parsed(line()), parsed(line(locale=None, state=None, roles=None, id=None))
    assert first.id != second.id
    assert not first.id_given
    assert first.email == EmailAddress("ada@example.com", "ada@example.com")
    assert (first.locale, first.state, first.roles) == (None, UserState.ACTIVE, ())


def test_everything_that_a_line_may_have() -> None:
    """Each field is kept in its canonical form."""
    read = parsed(
        line(
            id=ID.upper(),
            username="Ada.L",
            full_name=" Ada Lovelace ",
            email="Ada@EXAMPLE.com",
            locale="pt-BR",
            state="disabled",
            roles=[
                {"role": "editor"},
                {"role": "a:b", "expire_time": "2027-01-31T13:00:00.5+01:00", "reason": " x "},
            ],
        )
    )
    assert (read.id, read.id_given) == (UUID(ID), True)
    assert (read.username, read.full_name, read.locale) == ("ada.l", "Ada Lovelace", "pt-BR")
    assert read.email.account_key == "ada@example.com"
    assert read.state is UserState.DISABLED
    half_past = NOON + timedelta(seconds=0.5)
    assert read.roles == (RoleLine("editor", None, None), RoleLine("a:b", half_past, "x"))


def test_what_is_written_is_read() -> None:
    """One line, the same user with the same roles, times in UTC to the microsecond."""
    user = User(
        UUID(ID), "ada", "Ada \u00c9 \U0001f600", "ada@example.com", "de", UserState.ACTIVE, 7
    )
    zone = timezone(timedelta(hours=5, minutes=30))
    end = (NOON + timedelta(microseconds=1)).astimezone(zone)
    roles = [Assignment("a", NOON, None, "cli", None), Assignment("b", NOON, end, "x", "why")]
    text = written(user, roles)
    assert text.endswith(b"\n")
    assert text.count(b"\n") == 1
    assert json.loads(text)["roles"][1]["expire_time"] == "2027-01-31T12:00:00.000001Z"
    read = parsed(text)
    assert (read.id, read.username, read.full_name) == (user.id, user.username, user.full_name)
    assert read.roles == (RoleLine("a", None, None), RoleLine("b", end, "why"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "has more than 65536 bytes"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"{", "is not JSON"),
        (b"[" * 60_000, "is not JSON"),
        (b"9" * 60_000, "is not JSON"),
        (b'{"username": "ada"} {}', "is not JSON"),
        (b"\x00", "is not JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"email": "a@example.com", "email": "b@example.com"}', "`email` is there twice"),
        (line(rolls=[]), "`rolls` is no field; there are `id`, "),
        (line(**{"\x1b[31m\ud800" + "x" * 999: 1}), "`\\x1b[31m\\ud800xxx"),
        (line(username=...), "`username` is required"),
        (line(full_name=None), "`full_name` is required"),
        (line(email=""), "`email` is required"),
        (line(email=["ada@example.com"]), "`email` must be a string"),
        (line(email="ada"), "`email` must be an address like `ada@example.com`"),
        (line(email="\ud800@example.com"), "`email` must be an address like"),
        (line(email="a@\ud800.com"), "`email` must be an address like"),
        (line(username="a"), "`username` must be 3 to 32 of the characters"),
        (line(username="\ud800aaa"), "`username` must be 3 to 32 of the characters"),
        (line(username="root"), "`username` is a reserved name"),
        (line(full_name="a\ud800"), "`full_name` must have no control"),
        (line(full_name="a\x00"), "`full_name` must have no control"),
        (line(locale="german language"), "`locale` must be a BCP 47 language tag"),
        (line(locale=""), "`locale` must be a BCP 47 language tag"),
        (line(state="gone"), "`state` must be `active` or `disabled`"),
        (line(state=True), "`state` must be a string"),
        (line(id="ada"), "`id` must be a UUID"),
        (line(id=ID.replace("-", "")), "`id` must be a UUID"),
        (line(id=f"{{{ID}}}"), "`id` must be a UUID"),
        (line(id=7), "`id` must be a string"),
        (line(roles="editor"), "`roles` must be a list"),
        (line(roles=["editor"]), "`roles` number 1: must be an object like"),
        (line(roles=[{}]), "`roles` number 1: `role` is required"),
        (line(roles=[{"role": "A"}]), "`roles` number 1: `role` must be 1 to 64"),
        (line(roles=[{"role": "a"}, {"role": "b", "until": 1}]), "`roles` number 2: `until` is no"),
        (line(roles=[{"role": "a"}, {"role": "a"}]), "`roles` must not name a role twice"),
        (line(roles=[{"role": "a", "reason": "x\n"}]), "`reason` must have at most 200 printable"),
    ],
)
def test_why_a_line_is_refused(text: bytes | None, words: str) -> None:
    """The reason names the field and what would be accepted, in ASCII and at a bearable length."""
    reason = problem(text)
    assert words in reason
    assert reason.isascii()
    assert reason.isprintable()
    assert len(reason) < 300


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Whoever mends a file does it once."""
    assert problem(b'{"id": 1, "x": 2, "full_name": "Ada"}') == (
        "`x` is no field; there are `id`, `username`, `full_name`, `email`, `locale`, `state`, "
        "`roles`; `id` must be a string; `username` is required; `email` is required"
    )


@pytest.mark.parametrize(
    "time",
    [
        "2027-01-31",
        "20270131T120000Z",
        "2027-01-31T12:00:00",
        "2027-01-31 12:00:00Z",
        "2027-W05-1T12:00:00Z",
        "2027-02-30T12:00:00Z",
        "2027-01-31T12:00:60Z",
        "2027-01-31T12:00:00+25:00",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "\u0662027-01-31T12:00:00Z",
        "soon",
        "",
    ],
)
def test_a_time_is_one_of_rfc_3339(time: str) -> None:
    """Other forms, days that there are not, and what no zone turns into UTC are refused."""
    reason = problem(line(roles=[{"role": "a", "expire_time": time}]))
    assert reason == (
        "`roles` number 1: `expire_time` must be a time of RFC 3339 like `2027-01-31T12:00:00Z`"
    )


@pytest.mark.parametrize(
    "time",
    ["2027-01-31T12:00:00Z", "2027-01-31t12:00:00z", "2027-01-31T10:30:00.000000000-01:30"],
)
def test_times_of_rfc_3339_are_read(time: str) -> None:
    """In any case and zone."""
    [role] = parsed(line(roles=[{"role": "a", "expire_time": time}])).roles
    assert role.expire_time == NOON


def test_lines_are_cut_and_counted() -> None:
    """Of any end; the longest that may be is whole, one byte more is too long, and the next is
    found whatever was before it.
    """
    longest = b"a" * LINE_BYTES_MAX
    stream = io.BytesIO(
        b"\n".join([longest, longest + b"b", b"", b"x" * 5_000_000, b"c\r", longest])
    )
    assert list(lines_of(stream)) == [
        (1, longest + b"\n"),
        (2, None),
        (3, b"\n"),
        (4, None),
        (5, b"c\r\n"),
        (6, longest),
    ]
    assert list(lines_of(io.BytesIO(longest + b"b"))) == [(1, None)]
    assert list(lines_of(io.BytesIO(b""))) == []
    assert [is_blank(text) for text in (b"\n", b" \t\r\n", b"{}\n", None)] == [
        True,
        True,
        False,
        False,
    ]


def test_a_byte_order_mark_is_no_matter() -> None:
    """Some editors write one."""
    assert parsed(b"\xef\xbb\xbf" + line()).username == "ada"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["id", "username", "full_name", "email", "locale", "state", "roles", "x"])


OBJECTS = st.dictionaries(NAMES, VALUES).map(lambda fields: json.dumps(fields).encode())


# The first text is slow to make, on a busy machine above all.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200) | OBJECTS)
def test_nothing_breaks_the_reading(text: bytes) -> None:
    """Whatever is on a line, it is read or refused with words that can be printed anywhere."""
    try:
        parsed(text)
    except ValueRejected as error:
        assert str(error)
        assert str(error).isascii()
    with suppress(ValueRejected):
        parsed(line(roles=[{"role": "a", "expire_time": text.decode(errors="replace")}]))
