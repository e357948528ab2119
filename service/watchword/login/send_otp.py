"""SendOtp: mails a code, or the same code again."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from uuid import UUID

from watchword.crypto import Secret, new_id, slot_of, slot_of_subject
from watchword.errors import ChallengeClosed, RateLimited
from watchword.login.challenges import ProvesFor, issue, new_source, queue_mail, signing_in
from watchword.login.context import LoginContext
from watchword.login.devices import known_device
from watchword.login.ports import Tx
from watchword.otp.model import IssuedChallenge, Purpose, ResendableChallenge
from watchword.sessions.model import Client
from watchword.users.model import EmailAddress

# Nobody's: names have three characters at least.
_NO_USERNAME = ""
_LOOK_AGAIN_SECONDS = (0.1, 0.2, 0.4)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOtpCommand:
    """What SendOtp was asked, validated: a new code for an address, or a challenge's code again."""

    target: EmailAddress | UUID
    locale: str | None
    client: Client
    device_token: Secret | None = None
    request_id: UUID | None = None


async def send_otp(ctx: LoginContext, command: SendOtpCommand) -> IssuedChallenge:
    """Queues a mail; raises RateLimited, and ChallengeClosed for a challenge that is not live.

    A request id that was seen before, of the same caller and target, gives what it gave then and
    no second mail, limits or not.
    """
    if isinstance(command.target, EmailAddress):
        return await _send(ctx, command, command.target)
    return await _send_again(ctx, command, command.target)


async def _send(ctx: LoginContext, command: SendOtpCommand, email: EmailAddress) -> IssuedChallenge:
    """Makes a challenge for the address and queues its mail; a shadow where nobody is there.

    An active account is signed in by it; without any account the newest live registration is.
    """
    mailbox_key = ctx.limits.mailbox_key(email)
    subject_key = ctx.keys.subject_key(email.account_key)
    device = known_device(ctx.keys, subject_key, command.device_token)
    slot = slot_of_subject(subject_key)
    source = new_source(ctx, subject_key, _id_of(ctx, command, slot, target=subject_key))

    async def answered() -> IssuedChallenge | None:
        return await ctx.database.run_statement(lambda tx: _find_answered(tx, source.challenge_id))

    async def transaction(tx: Tx) -> IssuedChallenge:
        signs_in = await _find_whom(ctx, tx, email, subject_key)
        made = await issue(
            ctx,
            tx,
            source,
            signs_in,
            mailbox_key=mailbox_key,
            locale=command.locale,
            known_device=device,
        )
        if made is not None:
            return made
        stored = await _find_answered(tx, source.challenge_id)
        assert stored is not None, "the id that was in the way"
        return stored

    async def make() -> IssuedChallenge:
        await ctx.limits.take_mail(command.client, mailbox_key, device)
        return await ctx.database.run_tx(
            transaction, committed=lambda tx, _: tx.challenges.exists(source.challenge_id)
        )

    issued = await _once(command, answered, make)
    ctx.mail_queued()
    return issued


async def _send_again(
    ctx: LoginContext, command: SendOtpCommand, challenge_id: UUID
) -> IssuedChallenge:
    """Queues the mail of a live challenge again: the same code; its end and counts stay."""
    outbox_id = _id_of(ctx, command, slot_of(challenge_id), target=challenge_id.bytes)

    async def answered() -> IssuedChallenge | None:
        queued = await ctx.database.run_statement(lambda tx: tx.outbox.queued_time(outbox_id))
        if queued is None:
            return None
        found = await ctx.database.run_statement(find)
        return replace(found.issued, asked_time=queued)

    async def find(tx: Tx) -> ResendableChallenge:
        challenge = await tx.challenges.find_resendable(challenge_id, purpose=Purpose.SIGN_IN)
        if challenge is None:
            raise ChallengeClosed
        return challenge

    async def transaction(tx: Tx) -> IssuedChallenge:
        challenge = await find(tx)
        device = known_device(ctx.keys, challenge.subject_key, command.device_token)
        await queue_mail(
            tx,
            challenge_id,
            outbox_id=outbox_id,
            locale=command.locale,
            is_shadow=challenge.is_shadow,
            known_device=device is not None,
        )
        return challenge.issued

    async def make() -> IssuedChallenge:
        if ctx.limits.enabled:
            found = await ctx.database.run_statement(find)
            device = known_device(ctx.keys, found.subject_key, command.device_token)
            await ctx.limits.take_mail(command.client, found.mailbox_key, device)
        return await ctx.database.run_tx(transaction)

    issued = await _once(command, answered, make)
    ctx.mail_queued()
    return issued


def _id_of(ctx: LoginContext, command: SendOtpCommand, slot: int, *, target: bytes) -> UUID:
    """Gives the id of what is made: with a request id the same one each time, otherwise a new one.

    The target's length is fixed, so that no two callers, requests or targets share a derived id.
    """
    if command.request_id is None:
        return new_id(slot)
    value = target + command.request_id.bytes + command.client.caller.encode()
    return ctx.keys.derive_id(slot, value)


async def _once(
    command: SendOtpCommand,
    answered: Callable[[], Awaitable[IssuedChallenge | None]],
    make: Callable[[], Awaitable[IssuedChallenge]],
) -> IssuedChallenge:
    """Answers a repeated request from what is stored, and makes it otherwise.

    Looks again when a limit refuses: the call that this one repeats may be what has spent it, and
    be about to commit.
    """
    if command.request_id is None:
        return await make()
    before = await answered()
    if before is not None:
        return before
    try:
        return await make()
    except RateLimited:
        for wait_seconds in _LOOK_AGAIN_SECONDS:
            await asyncio.sleep(wait_seconds)
            meanwhile = await answered()
            if meanwhile is not None:
                return meanwhile
        raise


async def _find_answered(tx: Tx, challenge_id: UUID) -> IssuedChallenge | None:
    found = await tx.challenges.find_issued(challenge_id)
    if found is None:
        return None
    issued, is_live = found
    if not is_live:
        raise ChallengeClosed
    return issued


async def _find_whom(
    ctx: LoginContext, tx: Tx, email: EmailAddress, subject_key: bytes
) -> ProvesFor:
    """Finds by the same statements whoever is there, and that nobody is."""
    user_id = await tx.users.find_by_email(email.account_key)
    owner = await signing_in(tx, user_id)
    registration = await tx.registrations.bind_newest(
        subject_key, lifetime=ctx.otp.lifetime, wanted=user_id is None
    )
    await tx.registrations.extend_hold(
        _NO_USERNAME if registration is None else registration.username,
        subject_key=subject_key,
        lifetime=ctx.otp.lifetime,
    )
    return owner if registration is None else ProvesFor(registration_id=registration.id)
