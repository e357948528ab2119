"""What a request may hold: every field of every RPC, refused before anything is written.

Threats rows 14, 19 and 42: the guard is `check` at the head of every method of AuthService and the
rules behind it.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf.message import Message

from tests.rpc import hostile
from tests.rpc.wire import REQUESTS, Answer, Wire, contents, settled
from tests.support.running import RunningApp
from watchword_client import auth_service_pb2 as pb
from watchword_client import resources_pb2

CLIENT = {
    "client.ip": hostile.CLIENT_IPS,
    "client.user_agent": hostile.USER_AGENTS,
    "client.device_name": hostile.DEVICE_NAMES,
}


@dataclass(frozen=True)
class Form:
    """One way to call an RPC: what is right, what must be there, and what each field refuses."""

    method: str
    base: dict[str, Any]
    hostile: dict[str, dict[str, str]]
    required: tuple[str, ...] = ()

    def request(self, **changes: object) -> Message:
        """The right request with some fields changed; `client.ip` and its like are paths."""
        request = REQUESTS[self.method](**self.base)
        for path, value in changes.items():
            outer, _, inner = path.partition(".")
            if inner:
                setattr(getattr(request, outer), inner, value)
            else:
                setattr(request, outer, value)
        return request

    def without(self, field: str) -> Message:
        """The right request with one field left out."""
        request = self.request()
        request.ClearField(field)
        return request


LIVE_CHALLENGE = "(a live challenge)"
LIVE_TOKEN = "(a live session's token)"
LIVE_USER = "(a user)"

PERSON = {"full_name": "Eve Evans", "username": "eve.evans", "email": "eve@mail.example"}
FORMS = {
    "Register": Form(
        "Register",
        {**PERSON, "send_otp": True},
        {
            "full_name": hostile.FULL_NAMES,
            "username": hostile.USERNAMES,
            "email": hostile.EMAILS,
            "locale": hostile.LOCALES,
            **CLIENT,
        },
        required=("full_name", "username", "email"),
    ),
    "SendOtp by email": Form(
        "SendOtp",
        {"email": "grace@example.com"},
        {"email": hostile.EMAILS, "locale": hostile.LOCALES, **CLIENT},
    ),
    "SendOtp by challenge_id": Form(
        "SendOtp",
        {"challenge_id": LIVE_CHALLENGE},
        {"challenge_id": hostile.UUIDS, "locale": hostile.LOCALES, **CLIENT},
    ),
    "VerifyOtp by challenge_id": Form(
        "VerifyOtp",
        {"challenge_id": LIVE_CHALLENGE, "code": "864208"},
        {"challenge_id": hostile.UUIDS, "code": hostile.CODES, **CLIENT},
        required=("code",),
    ),
    "VerifyOtp by email": Form(
        "VerifyOtp",
        {"email": "ada@example.com", "code": "864208"},
        {"email": hostile.EMAILS, "code": hostile.CODES, **CLIENT},
        required=("code",),
    ),
    "ValidateSession": Form(
        "ValidateSession",
        {"session_token": LIVE_TOKEN},
        {"session_token": hostile.TOKENS},
        required=("session_token",),
    ),
    "Revoke": Form(
        "Revoke",
        {"session_token": LIVE_TOKEN},
        {"session_token": hostile.TOKENS},
        required=("session_token",),
    ),
    "RefreshSession": Form(
        "RefreshSession",
        {"session_token": LIVE_TOKEN},
        {"session_token": hostile.TOKENS, **CLIENT},
        required=("session_token",),
    ),
    "Revoke by session_id": Form(
        "Revoke",
        {"session_token": LIVE_TOKEN, "session_id": LIVE_CHALLENGE},
        {"session_token": hostile.TOKENS, "session_id": hostile.UUIDS},
    ),
    "ListSessions": Form(
        "ListSessions",
        {"session_token": LIVE_TOKEN},
        {"session_token": hostile.TOKENS},
        required=("session_token",),
    ),
    "StartEmailChange": Form(
        "StartEmailChange",
        {"session_token": LIVE_TOKEN, "new_email": "countess@example.com"},
        {
            "session_token": hostile.TOKENS,
            "new_email": hostile.EMAILS,
            "locale": hostile.LOCALES,
            **CLIENT,
        },
        required=("session_token", "new_email"),
    ),
    "ConfirmEmailChange": Form(
        "ConfirmEmailChange",
        {"session_token": LIVE_TOKEN, "challenge_id": LIVE_CHALLENGE, "code": "864208"},
        {
            "session_token": hostile.TOKENS,
            "challenge_id": hostile.UUIDS,
            "code": hostile.CODES,
            **CLIENT,
        },
        required=("session_token", "challenge_id", "code"),
    ),
    "GetRoles by user_id": Form("GetRoles", {"user_id": LIVE_USER}, {"user_id": hostile.UUIDS}),
    "GetRoles by session_token": Form(
        "GetRoles", {"session_token": LIVE_TOKEN}, {"session_token": hostile.TOKENS}
    ),
}


@pytest.fixture(scope="module")
async def forms(shared_app: RunningApp) -> dict[str, Form]:
    """The forms with a live challenge, session and user in them."""
    grace = await shared_app.sign_in("grace")
    ada = await shared_app.register("ada")
    await settled(shared_app)
    live = {
        LIVE_CHALLENGE: ada.challenge.id,
        LIVE_TOKEN: grace.session_token,
        LIVE_USER: grace.user.id,
    }
    return {
        name: Form(
            form.method,
            {field: live.get(str(value), value) for field, value in form.base.items()},
            form.hostile,
            form.required,
        )
        for name, form in FORMS.items()
    }


def assert_refused(answer: Answer, fields: list[str], what: object) -> None:
    """The answer is REQUEST_INVALID and names exactly these fields."""
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT, what
    assert answer.reason == "REQUEST_INVALID", what
    assert answer.fields == fields, what


@pytest.mark.parametrize("name", FORMS)
async def test_a_hostile_value_is_refused_by_name_and_leaves_no_trace(
    shared_app: RunningApp, shared_wire: Wire, forms: dict[str, Form], name: str
) -> None:
    """Every hostile text of every field: its field alone is named, its text is not echoed, and not
    a byte of the database changes, attempts included (the guard: `check` before the use case).
    """
    form = forms[name]
    before = await contents(shared_app)
    for field, texts in form.hostile.items():
        for case, text in texts.items():
            answer = await shared_wire.call(form.method, form.request(**{field: text}))
            assert_refused(answer, [field], (field, case))
            assert not text.strip() or text.strip() not in answer.text, (field, case)
    assert await contents(shared_app) == before


@pytest.mark.parametrize("name", FORMS)
async def test_all_violations_come_at_once(
    shared_app: RunningApp, shared_wire: Wire, forms: dict[str, Form], name: str
) -> None:
    """A request with every field wrong is answered with every field, in the order of the proto."""
    form = forms[name]
    before = await contents(shared_app)
    texts = {field: list(cases.values())[-1] for field, cases in form.hostile.items()}
    answer = await shared_wire.call(form.method, form.request(**texts))
    assert_refused(answer, answer.fields, name)
    assert sorted(answer.fields) == sorted(texts)
    assert await contents(shared_app) == before


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, form in FORMS.items() for field in form.required]
)
async def test_a_missing_field_is_named(
    shared_wire: Wire, forms: dict[str, Form], name: str, field: str
) -> None:
    """A required field that is left out is named, and no other."""
    answer = await shared_wire.call(forms[name].method, forms[name].without(field))
    assert_refused(answer, [field], name)


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("Register", ["full_name", "username", "email"]),
        ("SendOtp", ["target"]),
        ("VerifyOtp", ["target", "code"]),
        ("ValidateSession", ["session_token"]),
        ("RefreshSession", ["session_token"]),
        ("Revoke", ["session_token"]),
        ("ListSessions", ["session_token"]),
        ("StartEmailChange", ["session_token", "new_email"]),
        ("ConfirmEmailChange", ["session_token", "challenge_id", "code"]),
        ("GetRoles", ["target"]),
    ],
)
async def test_an_empty_request_names_what_is_required(
    shared_wire: Wire, method: str, fields: list[str]
) -> None:
    """A body of no bytes names every required field; a oneof goes by its own name, `target`."""
    assert_refused(await shared_wire.call(method, b""), fields, method)


async def test_a_client_of_nothing_is_welcome(shared_wire: Wire, forms: dict[str, Form]) -> None:
    """`client` and its fields, and `locale`, are optional: empty is the same as absent."""
    empty = {"locale": "", "client.ip": "", "client.user_agent": "", "client.device_name": ""}
    answer = await shared_wire.call("SendOtp", forms["SendOtp by email"].request(**empty))
    assert answer.code is grpc.StatusCode.OK


@pytest.mark.parametrize(
    "full_name",
    [
        "X",
        "Ada",
        "Siobhán O’Connor-D'Arcy",
        "Nguyễn Thị Minh Khai",
        "Сергей Королёв",
        "Ελένη Παπαδοπούλου",
        "محمد بن سلمان",
        "דויד בן־גוריון",
        "山田太郎",
        "김연아",
        "ጌታቸው",
        "ชัชชาติ",
        "क्\u200dषत्रिय",
        "نازنین\u200cزهرا",
        "👩\u200d💻 Ada",
        "Ａｄａ",
        "𝒜da",
        "a" * 200,
        "n" + "\u0301" * 199,
    ],
)
async def test_names_of_the_world_are_accepted(shared_app: RunningApp, full_name: str) -> None:
    """A name in any script, with joiners, apostrophes and marks, is stored as it is (in NFC)."""
    answer = await shared_app.client.register(
        full_name=full_name, username="names.of-the_world", email="names@example.com"
    )
    stored = await shared_app.sql(
        "SELECT full_name FROM registrations WHERE user_id = $1", UUID(answer.user_id)
    )
    assert [row["full_name"] for row in stored] in ([full_name], ["ń" + "\u0301" * 198])


async def test_what_is_folded_on_the_way_in(shared_app: RunningApp) -> None:
    """Upper-case usernames, IDN domains, decomposed and untrimmed names, and mapped addresses are
    stored in one form, whichever came.
    """
    registered = await shared_app.client.register(
        full_name="  Zoe\u0308 \u3000",
        username="ZOE.Z",
        email="Zoe@BÜCHER.example",
        locale="pt-BR",
        send_otp=True,
    )
    code = await shared_app.mails.code_for("Zoe@xn--bcher-kva.example")
    signed_in = await shared_app.client.verify_otp(
        challenge_id=registered.challenge.id,
        code=code,
        client=resources_pb2.ClientContext(
            ip="::FFFF:192.0.2.1", user_agent="Mozilla/5.0 (X11; …)", device_name="Zoë's phone"
        ),
    )
    assert signed_in.user.full_name == "Zoë"
    assert signed_in.user.username == "zoe.z"
    assert signed_in.user.email == "Zoe@xn--bcher-kva.example"
    row = (await shared_app.sql("SELECT * FROM sessions ORDER BY create_time DESC LIMIT 1"))[0]
    assert row["client_ip"] == "192.0.2.1"
    assert row["client_user_agent"] == "Mozilla/5.0 (X11; …)"
    assert row["client_device_name"] == "Zoë's phone"
    assert (await shared_app.sql("SELECT locale FROM users WHERE username = 'zoe.z'"))[0][0] == (
        "pt-BR"
    )


@pytest.mark.parametrize("locale", ["pt-BR", "tlh", "zh-Hant-TW", "fr-CH-1996", "x-private"])
async def test_a_language_without_templates_falls_back(shared_app: RunningApp, locale: str) -> None:
    """A well-formed tag that nobody has written templates for is accepted and mailed in English."""
    await shared_app.register(locale.lower(), locale=locale)
    mail = (await shared_app.mails.wait_for(f"{locale.lower()}@example.com"))[0]
    plain = mail.get_body(("plain",))
    assert plain is not None
    assert "minutes" in plain.get_content()


async def test_the_longest_of_everything_is_accepted(shared_wire: Wire) -> None:
    """Each field at its documented maximum passes, all in one request."""
    email = "a" * 64 + "@" + "b" * 61 + "." + "c" * 61 + "." + "d" * 57 + ".example"
    assert len(email) == 254
    request = pb.RegisterRequest(
        full_name="n" * 200,
        username="u" * 32,
        email=email,
        locale="de-abcdefgh-abcdefgh-abcdefgh-abcde",
        client=resources_pb2.ClientContext(
            ip="0000:0000:0000:0000:0000:ffff:192.168.100.228",
            user_agent="u" * 1024,
            device_name="d" * 200,
        ),
    )
    assert len(request.locale) == 35
    assert len(request.client.ip) == 45
    assert (await shared_wire.call("Register", request)).code is grpc.StatusCode.OK
