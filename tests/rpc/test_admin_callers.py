"""Who may call AdminService, and what a stored service key is worth anywhere (rows 40 and 41):
every RPC x {no credential, wrong, expired, revoked, suspended, each scope}.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import grpc
import pytest

from tests.rpc.test_callers import (
    MALFORMED,
    NEEDED,
    REFLECTION,
    assert_denied,
    bearer,
    refused_credentials,
)
from tests.rpc.wire import (
    ADMIN_REQUESTS,
    ADMIN_SERVICE,
    REQUESTS,
    SERVICE,
    Wire,
    admin_wire_to,
)
from tests.support.health import SERVING, health_of, status
from tests.support.running import RunningApp
from watchword.callers.model import Scope

USERS = (Scope.USERS, Scope.ADMIN)
ADMIN = (Scope.ADMIN,)
ADMIN_NEEDED = {
    "CreateUser": USERS,
    "GetUser": USERS,
    "ListUsers": USERS,
    "UpdateUser": USERS,
    "DisableUser": USERS,
    "EnableUser": USERS,
    "DeleteUser": USERS,
    "ListUserSessions": USERS,
    "RevokeUserSessions": USERS,
    "CreateRole": ADMIN,
    "UpdateRole": ADMIN,
    "DeleteRole": ADMIN,
    "ListRoles": ADMIN,
    "AssignRole": ADMIN,
    "UnassignRole": ADMIN,
    "RevokeSessions": ADMIN,
    "CreateServiceKey": ADMIN,
    "ListServiceKeys": ADMIN,
    "RevokeServiceKey": ADMIN,
    "ListAuditEvents": ADMIN,
}
# What a key that was good once has become.
ENDS = {
    "expired": "UPDATE service_keys SET expire_time = now() WHERE id = $1",
    "revoked": "UPDATE service_keys SET revoke_time = now() WHERE id = $1",
    "suspended": "UPDATE service_keys SET suspend_time = now() WHERE id = $1",
}


@pytest.fixture(scope="module")
async def admin_wire(shared_app: RunningApp) -> AsyncIterator[Wire]:
    """A wire to the shared server's AdminService."""
    async with admin_wire_to(shared_app) as wire:
        yield wire


def test_every_call_has_its_scope() -> None:
    """The matrix is that of the contract."""
    assert ADMIN_NEEDED.keys() == ADMIN_REQUESTS.keys()


@pytest.mark.parametrize("method", ADMIN_NEEDED)
async def test_no_caller_no_administration(
    shared_app: RunningApp, admin_wire: Wire, method: str
) -> None:
    """Without a credential, and with each that is not ours."""
    await assert_denied(shared_app, admin_wire, method, [], "CALLER_CREDENTIAL_MISSING")
    for metadata in refused_credentials(shared_app, admin_wire.key).values():
        await assert_denied(shared_app, admin_wire, method, metadata, "CALLER_CREDENTIAL_INVALID")


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("method", ADMIN_NEEDED)
async def test_each_scope_opens_its_own_administration(
    shared_app: RunningApp, admin_wire: Wire, method: str, scope: Scope
) -> None:
    """Users and admin what concerns users, admin alone the rest, nobody else anything."""
    metadata = bearer(shared_app.service_key(scope))
    if scope in ADMIN_NEEDED[method]:
        answer = await admin_wire.call(method, MALFORMED, metadata=metadata)
        assert answer.reason == "REQUEST_MALFORMED"
        return
    await assert_denied(shared_app, admin_wire, method, metadata, "CALLER_SCOPE_MISSING")
    answer = await admin_wire.call(method, MALFORMED, metadata=metadata)
    assert answer.info.metadata == {"scope": ADMIN_NEEDED[method][0]}


@pytest.mark.parametrize("end", ENDS)
async def test_a_stored_key_that_has_ended_opens_nothing(
    shared_app: RunningApp, shared_wire: Wire, admin_wire: Wire, end: str
) -> None:
    """Every RPC of both services: open while it is good, refused from a reading on that is sent
    after its end.

    Seen to fail with each of the three conditions taken out of the feed's statement.
    """
    created = await shared_app.admin.create_service_key(f"to-be-{end}", scopes=list(Scope))
    metadata = bearer(created.secret)
    wires = [(shared_wire, REQUESTS), (admin_wire, ADMIN_REQUESTS)]
    for wire, methods in wires:
        for method in methods:
            answer = await wire.call(method, MALFORMED, metadata=metadata)
            assert answer.reason == "REQUEST_MALFORMED", method
    await shared_app.sql(ENDS[end], created.service_key.id)
    # Making any key has this server read them all before it answers.
    await shared_app.admin.create_service_key("another", scopes=["login"])
    for wire, methods in wires:
        for method in methods:
            await assert_denied(shared_app, wire, method, metadata, "CALLER_CREDENTIAL_INVALID")


@pytest.mark.parametrize("scope", Scope)
async def test_a_stored_key_has_its_own_scopes(
    shared_app: RunningApp, shared_wire: Wire, admin_wire: Wire, scope: Scope
) -> None:
    """As one of the configuration."""
    metadata = bearer((await shared_app.admin.create_service_key("one", scopes=[scope])).secret)
    needed = {method: (wanted,) for method, wanted in NEEDED.items()}
    for wire, wanted in ((shared_wire, needed), (admin_wire, ADMIN_NEEDED)):
        for method, scopes in wanted.items():
            answer = await wire.call(method, MALFORMED, metadata=metadata)
            opened = scope in scopes
            assert answer.reason == ("REQUEST_MALFORMED" if opened else "CALLER_SCOPE_MISSING")


async def test_each_address_has_its_own_service(shared_wire: Wire, admin_wire: Wire) -> None:
    """What is asked at the wrong one, or does not exist, is UNIMPLEMENTED with the best key."""
    for wire, service, methods in (
        (shared_wire, ADMIN_SERVICE, ADMIN_REQUESTS),
        (admin_wire, SERVICE, REQUESTS),
        (admin_wire, ADMIN_SERVICE, ["Nothing", "ValidateSession"]),
    ):
        for method in methods:
            answer = await wire.call(method, b"", service=service)
            assert answer.code is grpc.StatusCode.UNIMPLEMENTED, method


async def test_nothing_else_is_at_the_address(shared_app: RunningApp, admin_wire: Wire) -> None:
    """Health answers without a caller; reflection is off."""
    async with health_of(shared_app.app.admin_address) as health:
        for service in ("", ADMIN_SERVICE):
            assert await status(health, service) == SERVING
    answer = await admin_wire.call("ServerReflectionInfo", b"", service=REFLECTION)
    assert answer.code is grpc.StatusCode.UNIMPLEMENTED


async def test_a_stored_key_is_named_in_the_audit(shared_app: RunningApp) -> None:
    """By the caller's name; who has made and ended it is there, its secret nowhere."""
    created = await shared_app.admin.create_service_key("back-office", scopes=["users"])
    key_id = created.service_key.id
    assert created.service_key.name == "back-office"
    assert list(created.service_key.scopes) == ["users"]
    await shared_app.admin.revoke_service_key(key_id)
    await shared_app.admin.revoke_service_key(key_id)
    events = (await shared_app.admin.list_audit_events(page_size=100)).events
    about = [event for event in events if event.target_id == key_id]
    assert [event.action for event in about] == ["revoke_service_key", "create_service_key"]
    assert {event.actor for event in about} == {"tests"}
    stored = await shared_app.sql("SELECT k::text AS row FROM service_keys k WHERE id = $1", key_id)
    assert created.secret[4:20] not in stored[0]["row"]


async def test_its_use_is_noted(shared_app: RunningApp, shared_wire: Wire) -> None:
    """With a call that Python answers and with one that the gate does, minutes late at most."""
    for method in ("GetRoles", "Register"):
        created = await shared_app.admin.create_service_key("used", scopes=["validate", "login"])
        assert not created.service_key.HasField("last_used_time")
        await shared_wire.call(method, MALFORMED, metadata=bearer(created.secret))
        await shared_app.app._service_keys.drain()  # what it does once in a minute
        keys = (await shared_app.admin.list_service_keys()).service_keys
        (found,) = [key for key in keys if key.id == created.service_key.id]
        assert found.last_used_time.ToDatetime(tzinfo=UTC) <= datetime.now(UTC)
        assert found.HasField("last_used_time")
