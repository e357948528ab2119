"""The matrix role x method x owner (threats row 42): what a session, an id or a code reaches is the
person's own, whatever roles that person holds.

That a request is no more than its documented fields is in test_pipeline.py and
test_registration.py.
"""

import base64
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.rpc.test_email_change import Change, attempts, confirm, started
from tests.rpc.test_roles import id_of
from tests.rpc.wire import REQUESTS
from tests.support.postgres import DatabaseServer
from tests.support.running import RunningApp, running_app
from watchword.audit.model import CLI
from watchword.login.role_admin import assign_role, create_role
from watchword_client import OtpInvalid, RequestInvalid, SessionInvalid, UsernameTaken
from watchword_client import auth_service_pb2 as pb

# Names of Watchword's own scopes among them: to it they are words, for applications to read.
ROLES: dict[str, tuple[str, ...]] = {
    "no role": (),
    "administrator": ("admin", "users", "login", "validate", "users.update", "sessions.revoke"),
}
# A session token: after the prefix 57 bytes, the session's id first, which need no padding.
PREFIX, ID_BYTES = "ww_", 16
NUMBERS = itertools.count(1)


@dataclass
class Person:
    """Somebody with a session."""

    name: str
    user_id: str
    session_id: str
    token: str

    @property
    def email(self) -> str:
        """The address."""
        return f"{self.name}@example.com"


@dataclass
class Scene:
    """An actor, and somebody else."""

    app: RunningApp
    actor: Person
    other: Person
    role: str

    @property
    def spliced(self) -> str:
        """The actor's token with the id of the other's session in it."""
        other, own = _raw(self.other.token), _raw(self.actor.token)
        return PREFIX + base64.urlsafe_b64encode(other[:ID_BYTES] + own[ID_BYTES:]).decode()


Cell = Callable[[Scene], Awaitable[None]]


@pytest.fixture(scope="module")
async def everybody(postgres: DatabaseServer, template: str) -> AsyncIterator[RunningApp]:
    """A server for the whole matrix."""
    name = postgres.next_name("owners")
    url = await postgres.create_database(name, template=template)
    async with running_app(url, GATE__CACHE_MIB="16") as app:
        for role, permissions in ROLES.items():
            if permissions:
                await create_role(app.app.database, role, permissions, actor=CLI)
        yield app
    await postgres.drop_database(name)


async def signed_in(app: RunningApp, name: str) -> Person:
    """A new person."""
    name = f"{name}{next(NUMBERS)}"
    answer = await app.sign_in(name)
    return Person(name, answer.user.id, answer.session.id, answer.session_token)


async def scene_for(app: RunningApp, role: str) -> Scene:
    """An actor with a role, and another person."""
    actor, other = await signed_in(app, "mallory"), await signed_in(app, "ada")
    if ROLES[role]:
        user_id = await id_of(app, actor.name)
        assert (await assign_role(app.app.database, role, user_id, actor=CLI)).done
    return Scene(app, actor, other, role)


async def code_mailed(app: RunningApp, person: Person) -> tuple[str, str]:
    """A challenge of the person's and its code, the second mail to the address."""
    challenge = (await app.client.send_otp(email=person.email)).challenge
    return challenge.id, await app.mails.code_for(person.email, count=2)


async def register_own(scene: Scene) -> None:
    name = f"{scene.actor.name}x"
    assert (await scene.app.register(name)).user_id


async def register_anothers(scene: Scene) -> None:
    """Neither the name nor the account of the address."""
    with pytest.raises(UsernameTaken):
        await scene.app.register(scene.other.name, email=scene.actor.email)
    registered = await scene.app.register(f"{scene.actor.name}x", email=scene.other.email)
    assert registered.user_id != scene.other.user_id


async def send_own(scene: Scene) -> None:
    await code_mailed(scene.app, scene.actor)


async def send_anothers(scene: Scene) -> None:
    """Whoever asks, the mail goes to the address's owner alone."""
    before = len(await scene.app.mails.wait_for(scene.actor.email))
    await code_mailed(scene.app, scene.other)
    assert len(await scene.app.mails.wait_for(scene.actor.email)) == before


async def verify_own(scene: Scene) -> None:
    challenge_id, code = await code_mailed(scene.app, scene.actor)
    answer = await scene.app.client.verify_otp(challenge_id=challenge_id, code=code)
    assert answer.user.id == scene.actor.user_id


async def verify_anothers(scene: Scene) -> None:
    """One's own code on another's challenge."""
    challenge_id, code = await code_mailed(scene.app, scene.other)
    _, own = await code_mailed(scene.app, scene.actor)
    assert own != code
    with pytest.raises(OtpInvalid):
        await scene.app.client.verify_otp(challenge_id=challenge_id, code=own)


async def validate_own(scene: Scene) -> None:
    answer = await scene.app.client.validate_session(scene.actor.token)
    assert (answer.session.id, answer.user.id) == (scene.actor.session_id, scene.actor.user_id)


async def validate_anothers(scene: Scene) -> None:
    await refused(scene, scene.app.client.validate_session)


async def batch_own(scene: Scene) -> None:
    answer = await scene.app.client.batch_validate_sessions([scene.actor.token])
    assert [result.user.id for result in answer.results] == [scene.actor.user_id]


async def batch_anothers(scene: Scene) -> None:
    tokens = [scene.actor.token, *stolen(scene)]
    answer = await scene.app.client.batch_validate_sessions(tokens)
    assert [it.user.id for it in answer.results] == [
        scene.actor.user_id,
        *[""] * len(stolen(scene)),
    ]


async def refresh_own(scene: Scene) -> None:
    answer = await scene.app.client.refresh_session(scene.actor.token)
    assert answer.session.id == scene.actor.session_id


async def refresh_anothers(scene: Scene) -> None:
    """Nor is the session ended, as if its token had been copied."""
    await refused(scene, scene.app.client.refresh_session)


async def revoke_own(scene: Scene) -> None:
    by_id = scene.app.client.revoke(scene.actor.token, session_id=scene.actor.session_id)
    assert (await by_id).revoked_count == 1
    with pytest.raises(SessionInvalid):
        await scene.app.client.validate_session(scene.actor.token)


async def revoke_anothers(scene: Scene) -> None:
    """By its id there is nothing to end; by every scope it is not among one's own."""
    by_id = scene.app.client.revoke(scene.actor.token, session_id=scene.other.session_id)
    assert (await by_id).revoked_count == 0
    for token in stolen(scene):
        assert (await scene.app.client.revoke(token)).revoked_count == 0
    for scope, count in ((pb.REVOKE_SCOPE_OTHERS, 0), (pb.REVOKE_SCOPE_ALL, 1)):
        answer = await scene.app.client.revoke(scene.actor.token, scope=scope)
        assert answer.revoked_count == count


async def list_own(scene: Scene) -> None:
    answer = await scene.app.client.list_sessions(scene.actor.token)
    assert [it.session.id for it in answer.sessions] == [scene.actor.session_id]


async def list_anothers(scene: Scene) -> None:
    """Nor by the token of another's page."""
    await refused(scene, scene.app.client.list_sessions)
    await code_mailed_and_used(scene)
    page = await scene.app.client.list_sessions(scene.other.token, page_size=1)
    assert page.next_page_token
    with pytest.raises(RequestInvalid):
        await scene.app.client.list_sessions(
            scene.actor.token, page_size=1, page_token=page.next_page_token
        )


async def start_own(scene: Scene) -> None:
    change = await started(scene.app, scene.actor.token, f"new.{scene.actor.email}")
    assert change.challenge_id


async def start_anothers(scene: Scene) -> None:
    new = f"new.{scene.other.email}"
    await refused(scene, lambda token: scene.app.client.start_email_change(token, new_email=new))


async def confirm_own(scene: Scene) -> None:
    new = f"new.{scene.actor.email}"
    changed = await confirm(scene.app, await started(scene.app, scene.actor.token, new))
    assert (changed.user.id, changed.user.email) == (scene.actor.user_id, new)


async def confirm_anothers(scene: Scene) -> None:
    """With the right code and one's own session, and with a token that names another's."""
    change = await started(scene.app, scene.other.token, f"new.{scene.other.email}")
    with pytest.raises(OtpInvalid):
        await confirm(scene.app, Change(scene.actor.token, change.challenge_id, change.code))
    for token in stolen(scene):
        with pytest.raises(SessionInvalid):
            await confirm(scene.app, Change(token, change.challenge_id, change.code))
    assert await attempts(scene.app, change.challenge_id) == 0


async def roles_own(scene: Scene) -> None:
    by_token = await scene.app.client.get_roles(session_token=scene.actor.token)
    by_id = await scene.app.client.get_roles(user_id=scene.actor.user_id)
    for answer in (by_token, by_id):
        assert list(answer.permissions) == sorted(ROLES[scene.role])


async def roles_anothers(scene: Scene) -> None:
    await refused(scene, lambda token: scene.app.client.get_roles(session_token=token))


MATRIX: dict[str, tuple[Cell, Cell]] = {
    "Register": (register_own, register_anothers),
    "SendOtp": (send_own, send_anothers),
    "VerifyOtp": (verify_own, verify_anothers),
    "ValidateSession": (validate_own, validate_anothers),
    "BatchValidateSessions": (batch_own, batch_anothers),
    "RefreshSession": (refresh_own, refresh_anothers),
    "Revoke": (revoke_own, revoke_anothers),
    "ListSessions": (list_own, list_anothers),
    "StartEmailChange": (start_own, start_anothers),
    "ConfirmEmailChange": (confirm_own, confirm_anothers),
    "GetRoles": (roles_own, roles_anothers),
}


def test_every_method_is_in_the_matrix() -> None:
    """The matrix is that of the contract; AdminService goes by scopes, not by owners."""
    assert MATRIX.keys() == REQUESTS.keys()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("method", MATRIX)
async def test_ones_own_is_reached(everybody: RunningApp, method: str, role: str) -> None:
    """Each method does what it is for, so that what the other cells refuse is not all there is."""
    await MATRIX[method][0](await scene_for(everybody, role))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("method", MATRIX)
async def test_anothers_is_not(everybody: RunningApp, method: str, role: str) -> None:
    """Whatever is tried, the other person and her session are as before."""
    scene = await scene_for(everybody, role)
    before = await known_of_other(scene)
    await MATRIX[method][1](scene)
    assert await known_of_other(scene) == before


def stolen(scene: Scene) -> tuple[str, ...]:
    """What the actor might present as the other's token: all that is shown of her."""
    return scene.spliced, scene.other.session_id, scene.other.user_id


async def refused(scene: Scene, call: Callable[[str], Awaitable[Any]]) -> None:
    """None of it is a session."""
    for token in stolen(scene):
        with pytest.raises(SessionInvalid):
            await call(token)


async def code_mailed_and_used(scene: Scene) -> None:
    """A second session of the other's."""
    challenge_id, code = await code_mailed(scene.app, scene.other)
    await scene.app.client.verify_otp(challenge_id=challenge_id, code=code)


async def known_of_other(scene: Scene) -> tuple[object, ...]:
    """Who the other is by the service's word and in the database, and the session."""
    other = scene.other
    answer = await scene.app.client.validate_session(other.token)
    rows = await scene.app.sql("SELECT u::text FROM users u WHERE id = $1", other.user_id)
    held = await scene.app.sql("SELECT role FROM user_roles WHERE user_id = $1", other.user_id)
    return answer.session, answer.user, [row[0] for row in rows], held


def _raw(token: str) -> bytes:
    return base64.urlsafe_b64decode(token.removeprefix(PREFIX))
