"""SendOtp: mails a code, or the same code again."""

from uuid import UUID

from watchword.crypto import Secret
from watchword.errors import ChallengeClosed
from watchword.login.challenges import (
    NOBODY,
    SignsIn,
    issue,
    new_source,
    queue_mail,
    signing_in_owner,
)
from watchword.login.context import LoginContext
from watchword.login.devices import known_device
from watchword.login.ports import Tx
from watchword.otp.model import IssuedChallenge, Purpose
from watchword.sessions.model import Client
from watchword.users.model import EmailAddress


async def send_otp(
    ctx: LoginContext,
    email: EmailAddress,
    *,
    locale: str | None,
    client: Client,
    device_token: Secret | None = None,
) -> IssuedChallenge:
    """Makes a challenge for the address and queues its mail; a shadow where nobody is there.

    An active account is signed in by it; without any account the newest live registration is.
    Raises RateLimited, at the same call whether or not somebody is there.
    """
    mailbox_key = ctx.limits.mailbox_key(email)
    subject_key = ctx.keys.subject_key(email.account_key)
    device = known_device(ctx.keys, subject_key, device_token)
    await ctx.limits.take_mail(client, mailbox_key, device)
    source = new_source(ctx, subject_key)

    async def transaction(tx: Tx) -> IssuedChallenge:
        signs_in = await _find_whom(ctx, tx, email, subject_key)
        return await issue(
            ctx,
            tx,
            source,
            signs_in,
            mailbox_key=mailbox_key,
            locale=locale,
            known_device=device,
        )

    issued = await ctx.database.run_tx(
        transaction, committed=lambda tx, _: tx.challenges.exists(source.challenge_id)
    )
    ctx.mail_queued()
    return issued


async def _find_whom(ctx: LoginContext, tx: Tx, email: EmailAddress, subject_key: bytes) -> SignsIn:
    user_id = await tx.users.find_by_email(email.account_key)
    if user_id is not None:
        return await signing_in_owner(tx, user_id)
    registration = await tx.registrations.bind_newest(subject_key, lifetime=ctx.otp.lifetime)
    if registration is None:
        return NOBODY
    await tx.registrations.extend_hold(
        registration.username, subject_key=subject_key, lifetime=ctx.otp.lifetime
    )
    return SignsIn(registration_id=registration.id)


async def resend_otp(
    ctx: LoginContext,
    challenge_id: UUID,
    *,
    locale: str | None,
    client: Client,
    device_token: Secret | None = None,
) -> IssuedChallenge:
    """Queues the mail of a live challenge again; raises ChallengeClosed for any other.

    The code is the same, its end and its counts stay as they are. Raises RateLimited.
    """
    if ctx.limits.enabled:
        found = await ctx.database.run_statement(
            lambda tx: tx.challenges.find_resendable(challenge_id, purpose=Purpose.SIGN_IN)
        )
        if found is None:
            raise ChallengeClosed
        device = known_device(ctx.keys, found.subject_key, device_token)
        await ctx.limits.take_mail(client, found.mailbox_key, device)

    async def transaction(tx: Tx) -> IssuedChallenge:
        challenge = await tx.challenges.find_resendable(challenge_id, purpose=Purpose.SIGN_IN)
        if challenge is None:
            raise ChallengeClosed
        if not challenge.is_shadow:
            await queue_mail(tx, challenge_id, locale=locale)
        return challenge.issued

    issued = await ctx.database.run_tx(transaction)
    ctx.mail_queued()
    return issued
