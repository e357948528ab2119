"""VerifyOtp: spends a code, once, and begins a session.

Counted and compared as any code is (codes.py), then used up in the transaction that makes the
session.
"""

from dataclasses import dataclass
from uuid import UUID

from watchword.audit.model import Action, Outcome
from watchword.changes.model import Change
from watchword.crypto import PresentedCode, Secret, slot_of
from watchword.errors import OtpInvalid
from watchword.login import auditing
from watchword.login.codes import Proven, charge_by_id, prove
from watchword.login.context import LoginContext
from watchword.login.devices import known_device, known_device_of, next_token
from watchword.login.ports import Tx
from watchword.login.revoke import end_oldest
from watchword.otp.model import Charge, ConsumedChallenge, KnownDevice, Purpose
from watchword.otp.policy import (
    ATTEMPTS_BY_EMAIL_MAX,
    FAILURE_BUDGET,
    LONG_CODE_FORM,
    NEWEST_BY_EMAIL,
)
from watchword.roles.model import Grants
from watchword.sessions.model import Client, NewSession, Session
from watchword.users.model import EmailAddress, User
from watchword.users.rules import account_key_of


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOtpCommand:
    """What VerifyOtp was asked, validated: a code for a challenge, or for an address."""

    target: UUID | EmailAddress
    code: PresentedCode
    client: Client
    device_token: Secret | None = None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What VerifyOtp answers; the tokens are shown this once."""

    token: Secret
    device_token: Secret
    session: Session
    user: User
    grants: Grants
    first_sign_in: bool


class _LostRace(OtpInvalid):
    """The challenge was used, or the address or username claimed, a moment before."""


async def verify_otp(ctx: LoginContext, command: VerifyOtpCommand) -> SignedIn:
    """Signs in whom the code's challenge is for; raises OtpInvalid, whatever the cause.

    Raises RateLimited before anything is charged or compared.
    """
    device = await _known_device(ctx, command)

    async def charge(tx: Tx) -> Charge:
        device_key = None if device is None else device.key
        if isinstance(command.target, EmailAddress):
            subject_key = ctx.keys.subject_key(command.target.account_key)
            return await _charge_by_email(ctx, tx, subject_key, command.code.form, device_key)
        return await charge_by_id(
            ctx,
            tx,
            command.target,
            command.code,
            purpose=Purpose.SIGN_IN,
            device_key=device_key,
        )

    def refused(why: Outcome, charged: Charge) -> None:
        _note_refusal(ctx, command, charged, why)

    proven = await prove(
        ctx, command.code, charge, client=command.client, device=device, refused=refused
    )
    try:
        signed_in = await _sign_in(ctx, proven, device, command.client)
    except OtpInvalid as error:
        lost = isinstance(error, _LostRace)
        refused(Outcome.LOST_RACE if lost else Outcome.NOBODY_TO_SIGN_IN, proven.charge)
        raise
    await ctx.limits.give_back(proven.taken)
    return signed_in


async def _known_device(ctx: LoginContext, command: VerifyOtpCommand) -> KnownDevice | None:
    if isinstance(command.target, EmailAddress):
        subject_key = ctx.keys.subject_key(command.target.account_key)
        return known_device(ctx.keys, subject_key, command.device_token)
    return await known_device_of(ctx, command.target, command.device_token)


def _note_refusal(
    ctx: LoginContext, command: VerifyOtpCommand, charge: Charge, why: Outcome
) -> None:
    of: bytes | UUID
    if isinstance(command.target, EmailAddress):
        of = ctx.keys.subject_key(command.target.account_key)
    else:
        of = charge.sources[0].subject_key if charge.sources else command.target
    ctx.refusals.note(auditing.code_refused(Action.SIGN_IN, why, of, client=command.client))


async def _charge_by_email(
    ctx: LoginContext, tx: Tx, subject_key: bytes, code_form: int, device_key: bytes | None
) -> Charge:
    """Strangers have a lane of their own, so that they cannot spend what a known device has."""
    if code_form == LONG_CODE_FORM:
        return await tx.attempts.find_long_by_email(
            subject_key, purpose=Purpose.SIGN_IN, newest=NEWEST_BY_EMAIL, device_key=device_key
        )
    if device_key is None:
        return await tx.attempts.charge_by_email(
            subject_key,
            purpose=Purpose.SIGN_IN,
            code_form=code_form,
            attempts_max=ATTEMPTS_BY_EMAIL_MAX,
            newest=NEWEST_BY_EMAIL,
            budget=FAILURE_BUDGET,
        )
    return await tx.device_attempts.charge_by_email(
        subject_key,
        device_key=device_key,
        purpose=Purpose.SIGN_IN,
        code_form=code_form,
        attempts_max=ctx.otp.attempts_max,
        newest=NEWEST_BY_EMAIL,
        budget=FAILURE_BUDGET,
    )


async def _sign_in(
    ctx: LoginContext,
    proven: Proven,
    device: KnownDevice | None,
    client: Client,
) -> SignedIn:
    """Uses the challenge up, gives its charge back, begins the session and audits it; or none."""
    source = proven.source

    async def transaction(tx: Tx) -> tuple[SignedIn, Change | None]:
        consumed = await tx.attempts.consume(
            source.challenge_id, subject_key=source.subject_key, charge=proven.charge
        )
        if consumed is None:
            raise _LostRace
        user, is_new = await _find_or_create_user(ctx, tx, consumed, source.subject_key)
        minted = ctx.keys.mint_session(slot_of(user.id))
        session = await tx.sessions.insert(
            NewSession(
                id=minted.session_id,
                user_id=user.id,
                verifier=minted.verifier,
                key_id=minted.key_id,
                epoch=user.auth_epoch,
                lifetime=ctx.sessions.lifetime,
                client=client,
            )
        )
        await tx.audit.put(auditing.signed_in(session, client=client, first=is_new))
        change = None if is_new else await end_oldest(ctx, tx, user.id, caller=client.caller)
        grants = Grants() if is_new else await tx.roles.grants_of(user.id)
        device_token = next_token(ctx.keys, source.subject_key, device, session)
        token = minted.token
        return SignedIn(token, device_token, session, user, grants, first_sign_in=is_new), change

    signed_in, change = await ctx.database.run_tx(
        transaction, committed=lambda tx, done: tx.sessions.exists(done[0].session.id)
    )
    if change is not None:
        ctx.tell_cache(change)
    return signed_in


async def _find_or_create_user(
    ctx: LoginContext, tx: Tx, consumed: ConsumedChallenge, subject_key: bytes
) -> tuple[User, bool]:
    """Returns the active user to sign in, locked, and whether it was made just now.

    Locked, so that sign-ins that come together count each other's sessions.
    """
    if consumed.user_id is not None:
        user = _active(await tx.users.lock(consumed.user_id))
        if ctx.keys.subject_key(account_key_of(user.email)) != subject_key:
            raise OtpInvalid  # it proves an address that is no longer this user's
        return user, False
    if consumed.registration_id is None:
        raise OtpInvalid  # a shadow: its code was never mailed
    registration = await tx.registrations.get(consumed.registration_id)
    if registration is None:
        raise OtpInvalid
    account_key = account_key_of(registration.email)
    owner_id = await tx.users.find_by_email(account_key)
    if owner_id is not None:
        # The account came into being after the challenge. Its code went to the registration's
        # address; one that differs in case alone may be another person's mailbox.
        owner = _active(await tx.users.lock(owner_id))
        if owner.email != registration.email:
            raise OtpInvalid
        return owner, False
    if not await tx.registrations.end(registration.id):
        raise _LostRace  # it has made an account before, which has another address by now
    user = await tx.users.insert(registration.account)
    claimed = await tx.users.claim_email(account_key, user_id=user.id)
    claimed = claimed and await tx.users.claim_username(
        registration.username, user_id=user.id, subject_key=registration.subject_key
    )
    if not claimed:
        # Somebody was faster, or the hold is gone: everything of this transaction is undone, and
        # the person asks for a new code.
        raise _LostRace
    return user, True


def _active(user: User | None) -> User:
    if user is None or not user.active:
        raise OtpInvalid
    return user
