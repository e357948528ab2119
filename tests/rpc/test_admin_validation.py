"""What a request to AdminService may hold: every field, refused before anything is written."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from tests.rpc import hostile
from tests.rpc.wire import ADMIN_REQUESTS, Wire, admin_wire_to, contents
from tests.support.running import RunningApp

USER, ROLE = "01a1b2c3-4d5e-8f60-a1b2-c3d4e5f60770", "editor"
NAMES = {
    "empty": "",
    "too long": "r" * 65,
    "upper case": "Editor",
    "space": "an editor",
    "slash": "a/b",
    "NUL": "editor\x00",
    "line break": "editor\n",
    "override": "edi\u202etor",
    "full-width": "ｅditor",
    "SQL": "editor' OR '1'='1",
}
ROLE_NAMES = {case: text for case, text in NAMES.items() if text}
CALLER_NAMES = {**NAMES, "reserved": "cli", "reserved too": "unknown", "hyphen first": "-a"}
SCOPES = {"empty": "", "unknown": "root", "upper case": "LOGIN", "two": "login+validate"}
WORDS = {"too long": "w" * 65, "NUL": "a\x00", "line break": "a\nb", "override": "a\u202eb"}
REASONS = {"too long": "r" * 201, "NUL": "a\x00", "line break": "a\nb"}
TOKENS = {"too long": "w" * 257, "too long in bytes": "é" * 129, "none of this list": "wwp_x"}
IDS = {case: text for case, text in hostile.UUIDS.items() if text}
PERSON = {"full_name": "Eve", "username": "eve", "email": "eve@mail.example"}
FIELDS = {
    "full_name": hostile.FULL_NAMES,
    "username": hostile.USERNAMES,
    "email": hostile.EMAILS,
    "locale": hostile.LOCALES,
}
# By RPC: what is right, and what each field refuses.
FORMS: list[tuple[str, dict[str, Any], dict[str, dict[str, str]]]] = [
    ("CreateUser", PERSON, FIELDS),
    ("GetUser", {"user_id": USER}, {"user_id": hostile.UUIDS}),
    ("GetUser", {"username": "eve"}, {"username": hostile.USERNAMES}),
    ("GetUser", {"email": "eve@mail.example"}, {"email": hostile.EMAILS}),
    ("ListUsers", {}, {"page_token": TOKENS, "role": ROLE_NAMES}),
    (
        "UpdateUser",
        {"user_id": USER, **PERSON, "update_mask": FieldMask(paths=list(FIELDS))},
        {"user_id": hostile.UUIDS, **FIELDS},
    ),
    ("DisableUser", {"user_id": USER}, {"user_id": hostile.UUIDS}),
    ("EnableUser", {"user_id": USER}, {"user_id": hostile.UUIDS}),
    ("DeleteUser", {"user_id": USER}, {"user_id": hostile.UUIDS}),
    ("ListUserSessions", {"user_id": USER}, {"user_id": hostile.UUIDS, "page_token": TOKENS}),
    ("RevokeUserSessions", {"user_id": USER}, {"user_id": hostile.UUIDS, "session_id": IDS}),
    ("CreateRole", {"name": ROLE}, {"name": NAMES}),
    ("UpdateRole", {"name": ROLE}, {"name": NAMES}),
    ("DeleteRole", {"name": ROLE}, {"name": NAMES}),
    ("ListRoles", {}, {"page_token": TOKENS}),
    (
        "AssignRole",
        {"user_id": USER, "role": ROLE},
        {"user_id": hostile.UUIDS, "role": NAMES, "reason": REASONS},
    ),
    ("UnassignRole", {"user_id": USER, "role": ROLE}, {"user_id": hostile.UUIDS, "role": NAMES}),
    ("RevokeSessions", {"role": ROLE}, {"role": NAMES}),
    ("CreateServiceKey", {"name": "gateway", "scopes": ["login"]}, {"name": CALLER_NAMES}),
    ("ListServiceKeys", {}, {"page_token": TOKENS}),
    ("RevokeServiceKey", {"service_key_id": USER}, {"service_key_id": hostile.UUIDS}),
    (
        "ListAuditEvents",
        {},
        {"page_token": TOKENS, "user_id": IDS, "action": WORDS, "actor": WORDS},
    ),
]


@pytest.fixture(scope="module")
async def admin_wire(shared_app: RunningApp) -> AsyncIterator[Wire]:
    """A wire to the shared server's AdminService."""
    async with admin_wire_to(shared_app) as wire:
        yield wire


def test_every_call_is_tried() -> None:
    """None is left out."""
    assert {method for method, _, _ in FORMS} == ADMIN_REQUESTS.keys()


@pytest.mark.parametrize("form", range(len(FORMS)))
async def test_a_hostile_value_is_refused_by_name(
    shared_app: RunningApp, admin_wire: Wire, form: int
) -> None:
    """Its field alone is named, its text is not echoed, and not a byte of the database changes (the
    guard: `check` at the head of every method).
    """
    method, base, fields = FORMS[form]
    before = await contents(shared_app)
    for field, texts in fields.items():
        for case, text in texts.items():
            request = ADMIN_REQUESTS[method](**{**base, field: text})
            answer = await admin_wire.call(method, request)
            what = (method, field, case)
            assert answer.code is grpc.StatusCode.INVALID_ARGUMENT, what
            assert (answer.reason, answer.fields) == ("REQUEST_INVALID", [field]), what
            assert not text.strip() or text.strip() not in answer.text, what
    assert await contents(shared_app) == before


@pytest.mark.parametrize("method", ADMIN_REQUESTS)
async def test_garbage_is_malformed(admin_wire: Wire, method: str) -> None:
    """Bytes that are no message, invalid UTF-8, and messages cut anywhere: never UNKNOWN."""
    for body in (b"\xff\xff", b"\x12\x02\xff\xfe", b"\x0a\x05a", b"\x0a"):
        answer = await admin_wire.call(method, body)
        assert answer.reason in {"REQUEST_MALFORMED", "REQUEST_INVALID"}, body


async def test_lists_and_times_have_bounds(shared_app: RunningApp, admin_wire: Wire) -> None:
    """Too many permissions, a wrong one among them, no scope, a wrong one, times that are none."""
    before = await contents(shared_app)
    cases: list[tuple[str, dict[str, Any], list[str]]] = [
        ("CreateRole", {"name": ROLE, "permissions": ["p"] * 257}, ["permissions"]),
        ("CreateRole", {"name": ROLE, "permissions": ["p", "P"]}, ["permissions[1]"]),
        ("UpdateRole", {"name": ROLE, "permissions": [""]}, ["permissions[0]"]),
        ("CreateServiceKey", {"name": "gateway"}, ["scopes"]),
        ("CreateServiceKey", {"name": "gateway", "scopes": ["login"] * 6}, ["scopes"]),
        *(
            ("CreateServiceKey", {"name": "gateway", "scopes": [scope]}, ["scopes[0]"])
            for scope in SCOPES.values()
        ),
        ("ListUsers", {"page_size": -1, "state": 7}, ["page_size", "state"]),
        ("RevokeSessions", {}, ["target"]),
        ("RevokeSessions", {"everybody": False}, ["everybody"]),
        ("GetUser", {}, ["target"]),
    ]
    for seconds, nanos in [(-1, 0), (0, -1), (0, 1_000_000_000), (253_402_300_800, 0), (2**62, 0)]:
        time = Timestamp(seconds=seconds, nanos=nanos)
        cases += [
            ("AssignRole", {"user_id": USER, "role": ROLE, "expire_time": time}, ["expire_time"]),
            (
                "CreateServiceKey",
                {"name": "gateway", "scopes": ["login"], "expire_time": time},
                ["expire_time"],
            ),
            ("ListAuditEvents", {"start_time": time, "end_time": time}, ["start_time", "end_time"]),
        ]
    for method, fields, named in cases:
        answer = await admin_wire.call(method, ADMIN_REQUESTS[method](**fields))
        assert (answer.reason, answer.fields) == ("REQUEST_INVALID", named), (method, fields)
    for over in (Timestamp(seconds=0), Timestamp(seconds=1)):
        request = {"name": "gateway", "scopes": ["login"], "expire_time": over}
        answer = await admin_wire.call(
            "CreateServiceKey", ADMIN_REQUESTS["CreateServiceKey"](**request)
        )
        assert answer.fields == ["expire_time"]
    assert await contents(shared_app) == before
