"""People whose every call may be answered UNAVAILABLE, and what their answers have to be.

Each call is asked again until it is answered: an UNAVAILABLE tells nothing. What contradicts what
was answered before is an AssertionError.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from tests.races.bursts import guesses
from tests.support.replicas import Replicas
from watchword import errors
from watchword.audit.model import CLI
from watchword.login import user_admin
from watchword.login.ports import Database
from watchword.login.role_admin import assign_role, unassign_role
from watchword.otp.policy import FAILURE_BUDGET, NEWEST_BY_EMAIL
from watchword_client import (
    AsyncClient,
    ChallengeClosed,
    OtpInvalid,
    Overloaded,
    SessionInvalid,
    Unavailable,
    UsernameTaken,
    WatchwordError,
)
from watchword_client import auth_service_pb2 as pb

T = TypeVar("T")

ROLES = ("auditor", "writer")
OTHERS, ALL = pb.REVOKE_SCOPE_OTHERS, pb.REVOKE_SCOPE_ALL
AGAIN_SECONDS = 0.02
# Answers that say nothing of what was done: those of the client, and those of the use cases.
UNKNOWN = (Overloaded, Unavailable, errors.Overloaded, errors.StorageUnavailable)


async def answered(call: Callable[[], Awaitable[T]]) -> tuple[T | WatchwordError, int]:
    """Asks until there is an answer, a refusal too; how many tries before it were in doubt."""
    doubts = 0
    while True:
        try:
            return await call(), doubts
        except UNKNOWN:
            doubts += 1
        except WatchwordError as error:
            return error, doubts
        await asyncio.sleep(AGAIN_SECONDS)


async def done(call: Callable[[], Awaitable[T]]) -> tuple[T, int]:
    """The same of a call that is not to be refused."""
    answer, doubts = await answered(call)
    assert not isinstance(answer, WatchwordError), repr(answer)
    return answer, doubts


@dataclass
class Told:
    """What all people were answered together, for the comparison with what is stored."""

    sign_ins: set[str] = field(default_factory=set)
    sign_ins_in_doubt: int = 0
    revoked: set[str] = field(default_factory=set)
    email_changes: set[str] = field(default_factory=set)
    wrong_codes: int = 0
    # Resends of a challenge: those that were answered OK, and those in doubt.
    resent: Counter[str] = field(default_factory=Counter)
    resent_in_doubt: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)


@dataclass
class Person:
    """Somebody with an account, and what the answers say that it is."""

    replicas: Replicas
    database: Database
    told: Told
    name: str
    chance: random.Random
    email: str = ""
    user_id: str = ""
    # Of each session that is live its tokens, the newest last; sessions whose answer was lost.
    sessions: dict[str, list[str]] = field(default_factory=dict)
    in_doubt: int = 0
    ended: list[str] = field(default_factory=list)
    roles: set[str] = field(default_factory=set)
    moves: int = 0
    # The most that was counted against each address and not given back.
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def client(self) -> AsyncClient:
        """Any of the servers."""
        return self.chance.choice(self.replicas.clients)

    def some_clients(self, *, most: int = 3) -> list[AsyncClient]:
        """One to three callers of one thing at once."""
        return [self.client for _ in range(self.chance.randint(1, max(1, min(3, most))))]

    def _room(self, email: str) -> int:
        """How many codes of this address may be tried: the losers of a race count as wrong ones."""
        return FAILURE_BUDGET.in_day - self.failures[email]

    async def begin(self) -> None:
        """Registers and signs in. Somebody else wants the username at the same moment: one has it,
        and whoever has it keeps it while asking again.
        """
        emails = [f"{self.name}@example.com", f"{self.name}@example.net"]

        async def ask(email: str) -> tuple[pb.RegisterResponse | WatchwordError, int]:
            client = self.client
            return await answered(
                lambda: client.register(
                    full_name="P", username=self.name, email=email, send_otp=True
                )
            )

        answers = await asyncio.gather(*map(ask, emails))
        refused = [isinstance(answer, UsernameTaken) for answer, _ in answers]
        assert sorted(refused) == [False, True], answers
        self.email = emails[refused.index(False)]
        registered, doubts = answers[refused.index(False)]
        assert isinstance(registered, pb.RegisterResponse), registered
        signed_in = await self.sign_in(registered.challenge.id)
        self.user_id = signed_in.user.id
        assert signed_in.first_sign_in or self.in_doubt
        assert self.user_id == registered.user_id or doubts or self.in_doubt

    async def begin_session(self) -> None:
        """One more."""
        await self.sign_in()

    async def sign_in(self, challenge_id: str | None = None) -> pb.VerifyOtpResponse:
        """One to three callers have the right code, of whom one at most is signed in; another code
        is asked for only where that one's answer was lost.
        """
        self.told.calls["sign in"] += 1
        while True:
            if challenge_id is None:
                client = self.client
                issued, _ = await done(lambda client=client: client.send_otp(email=self.email))  # type: ignore[misc]  # a default
                challenge_id = issued.challenge.id
            code = await self._guessed(challenge_id, self.email)
            if self.failures[self.email] == 0 and self.chance.random() < 0.3:
                # One alone: this lane has half of the budget, and counts each code that it tries.
                answers = [await self._once(self.client.verify_otp(email=self.email, code=code))]
                self._count(self.email, answers * NEWEST_BY_EMAIL)
            else:
                calls = [
                    self._once(client.verify_otp(challenge_id=challenge_id, code=code))
                    for client in self.some_clients(most=self._room(self.email))
                ]
                answers = await asyncio.gather(*calls)
                self._count(self.email, answers)
            signed_in = [one for one in answers if isinstance(one, pb.VerifyOtpResponse)]
            assert len(signed_in) <= 1, "a code used twice"
            for one in signed_in:
                self.sessions[one.session.id] = [one.session_token]
                self.told.sign_ins.add(one.session.id)
                return one
            assert any(isinstance(one, UNKNOWN) for one in answers), "a right code refused"
            self.in_doubt += 1
            self.told.sign_ins_in_doubt += 1
            challenge_id = None

    async def _once(self, call: Awaitable[T]) -> T | WatchwordError:
        """A code is never sent again by one who does not know what became of it."""
        try:
            return await call
        except (OtpInvalid, *UNKNOWN) as error:
            return error  # type: ignore[return-value]  # the client's own of UNKNOWN

    def _count(self, email: str, answers: Sequence[object]) -> None:
        self.failures[email] += sum(isinstance(answer, Exception) for answer in answers)

    async def _guessed(self, challenge_id: str, email: str, *, token: str | None = None) -> str:
        """The right code, after a wrong one now and then, and after a resend now and then."""
        code = await self.replicas.code_of(challenge_id)
        if self.chance.random() < 0.2 and token is None:
            client = self.client
            answer, doubts = await answered(lambda: client.send_otp(challenge_id=challenge_id))
            assert not isinstance(answer, ChallengeClosed)
            self.told.resent[challenge_id] += 1
            self.told.resent_in_doubt[challenge_id] += doubts
        if self.chance.random() < 0.3 and code.isdigit() and self._room(email) > 1:
            wrong = guesses(code, 1)[0]
            call = (
                self.client.verify_otp(challenge_id=challenge_id, code=wrong)
                if token is None
                else self.client.confirm_email_change(token, challenge_id=challenge_id, code=wrong)
            )
            answer = await self._once(call)
            self._count(email, [answer])
            assert isinstance(answer, WatchwordError), "a wrong code accepted"
            self.told.wrong_codes += isinstance(answer, OtpInvalid)
        return code

    async def refresh(self, session_id: str) -> None:
        """One to three callers of one token have the same next one."""
        self.told.calls["refresh"] += 1
        tokens = self.sessions[session_id]
        asked = [
            done(lambda client=client: client.refresh_session(tokens[-1]))  # type: ignore[misc]  # a default
            for client in self.some_clients()
        ]
        answers = {answer.session_token for answer, _ in await asyncio.gather(*asked)}
        assert len(answers) == 1, "two tokens follow one"
        tokens += answers

    async def replay(self, session_id: str) -> None:
        """Whoever refreshes a token older than the one before is a thief, or has met one."""
        tokens = self.sessions[session_id]
        while len(tokens) < 3:
            await self.refresh(session_id)
        self.told.calls["replay"] += 1
        client, old = self.client, self.chance.choice(tokens[:-2])
        answer, _ = await answered(lambda: client.refresh_session(old))
        assert isinstance(answer, SessionInvalid), "an old token refreshed"
        self._end(session_id)

    async def revoke(self, session_id: str, *, by: str = "token") -> None:
        """Ends one session: by its token, by another's token and its id, or by the operator."""
        self.told.calls["revoke"] += 1
        client, token = self.client, self.sessions[session_id][-1]
        others = [tokens[-1] for id, tokens in self.sessions.items() if id != session_id]
        if by == "operator":
            user_id, id = UUID(self.user_id), UUID(session_id)
            ended, doubts = await done(
                lambda: user_admin.revoke_session_of(self.database, user_id, id, actor=CLI)
            )
            count = ended.count
        else:
            if by == "id" and others:
                other = self.chance.choice(others)
                call = lambda: client.revoke(other, session_id=session_id)  # noqa: E731
            else:
                call = lambda: client.revoke(token)  # noqa: E731
            revoked, doubts = await done(call)
            count = revoked.revoked_count
        assert count == 1 or doubts, "a live session was not there to be ended"
        self.told.revoked.add(session_id)
        self._end(session_id)

    async def revoke_many(self, scope: pb.RevokeScope) -> None:
        """Ends the others, or all."""
        self.told.calls["revoke many"] += 1
        client, spared = self.client, self.chance.choice(list(self.sessions))
        token = self.sessions[spared][-1]
        answer, doubts = await done(lambda: client.revoke(token, scope=scope))
        self._end_all(answer.revoked_count, doubts, spared=spared if scope is OTHERS else None)

    async def move(self) -> None:
        """Takes another address, proved by a code that one or two callers have."""
        self.told.calls["change of address"] += 1
        self.moves += 1
        new_email = f"{self.name}-{self.moves}@example.org"
        spared = self.chance.choice(list(self.sessions))
        token = self.sessions[spared][-1]
        revoked = None
        while revoked is None:
            client = self.client
            started, _ = await done(
                lambda client=client: client.start_email_change(token, new_email=new_email)  # type: ignore[misc]  # a default
            )
            challenge_id = started.challenge.id
            code = await self._guessed(challenge_id, new_email, token=token)
            calls = [
                self._once(client.confirm_email_change(token, challenge_id=challenge_id, code=code))
                for client in self.some_clients(most=min(2, self._room(new_email)))
            ]
            answers = await asyncio.gather(*calls)
            self._count(new_email, answers)
            changed = [one for one in answers if isinstance(one, pb.ConfirmEmailChangeResponse)]
            assert len(changed) <= 1, "a code used twice"
            if changed:
                assert changed[0].user.email == new_email
                self.told.email_changes.add(challenge_id)
                revoked = changed[0].revoked_count
                break
            assert any(isinstance(one, UNKNOWN) for one in answers), "a right code refused"
            seen, _ = await done(lambda: self.client.validate_session(token))
            if seen.user.email == new_email:
                break
            assert seen.user.email == self.email
        self.email = new_email
        self._end_all(revoked, revoked is None, spared=spared)

    async def change_role(self) -> None:
        """Gives or takes a role, by two operators at once now and then: it is done once."""
        self.told.calls["role"] += 1
        role, user_id = self.chance.choice(ROLES), UUID(self.user_id)
        held = role in self.roles
        act = unassign_role if held else assign_role
        asked = [
            done(lambda: act(self.database, role, user_id, actor=CLI))
            for _ in range(self.chance.choice((1, 2)))
        ]
        answers = await asyncio.gather(*asked)
        count = sum(answer.done for answer, _ in answers)
        assert count == 1 or (count == 0 and any(doubts for _, doubts in answers)), answers
        self.roles ^= {role}

    async def be_disabled(self) -> None:
        """Is disabled, cannot sign in, and is enabled again: the sessions stay dead."""
        self.told.calls["disabled"] += 1
        user_id = UUID(self.user_id)
        disabled, doubts = await done(
            lambda: user_admin.disable_user(self.database, user_id, actor=CLI)
        )
        assert disabled.done or doubts
        self._end_all(disabled.count if disabled.done else None, doubts)
        client = self.client
        shadow, _ = await done(lambda: client.send_otp(email=self.email))
        code = await self.replicas.code_of(shadow.challenge.id)
        answer = await self._once(
            self.client.verify_otp(challenge_id=shadow.challenge.id, code=code)
        )
        self._count(self.email, [answer])
        assert isinstance(answer, (OtpInvalid, *UNKNOWN)), "a disabled person signed in"
        enabled, doubts = await done(
            lambda: user_admin.enable_user(self.database, user_id, actor=CLI)
        )
        assert enabled.done or doubts

    async def end_all_by_operator(self) -> None:
        """Every session ends, of those who are signed in."""
        self.told.calls["revoke many"] += 1
        user_id = UUID(self.user_id)
        ended, doubts = await done(
            lambda: user_admin.revoke_sessions_of(self.database, user_id, actor=CLI)
        )
        self._end_all(ended.count, doubts)

    async def check(self) -> None:
        """Whether any server says of the tokens, the address and the roles what was answered."""
        newest = [tokens[-1] for tokens in self.sessions.values()]
        dead = self.chance.sample(self.ended, min(3, len(self.ended)))
        client = self.client
        answer, _ = await done(lambda: client.batch_validate_sessions([*newest, *dead]))
        live = [result.HasField("session") for result in answer.results]
        assert live == [True] * len(newest) + [False] * len(dead), "ended, or not, against an OK"
        for result in answer.results[: len(newest)]:
            assert result.user.email == self.email
            assert set(result.user.roles) == self.roles

    def _end(self, session_id: str) -> None:
        self.ended += self.sessions.pop(session_id)

    def _end_all(self, count: int | None, doubts: int, *, spared: str | None = None) -> None:
        gone = [id for id in self.sessions if id != spared]
        if not doubts:
            assert count is not None
            assert len(gone) <= count <= len(gone) + self.in_doubt, "not all were ended"
        self.in_doubt = 0
        for id in gone:
            self._end(id)
