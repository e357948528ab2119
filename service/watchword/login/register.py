"""Register: takes down who someone says to be."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from watchword.crypto import new_id, new_user_id, slot_of_subject
from watchword.errors import EmailTaken, UsernameTaken
from watchword.login.challenges import ProvesFor, issue, new_source, signing_in
from watchword.login.context import LoginContext
from watchword.login.ports import Tx
from watchword.otp.model import IssuedChallenge
from watchword.sessions.model import Client
from watchword.users.model import REGISTRATION_LIFETIME, EmailAddress, Registration


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterCommand:
    """What Register was asked, validated."""

    full_name: str
    username: str
    email: EmailAddress
    locale: str | None
    send_otp: bool
    client: Client


@dataclass(frozen=True, slots=True)
class Registered:
    """What Register answers; `challenge` only when a code was asked for."""

    user_id: UUID
    expire_time: datetime
    challenge: IssuedChallenge | None


async def register(ctx: LoginContext, command: RegisterCommand) -> Registered:
    """Stores a registration and holds its username; the same whether or not the address is known.

    Raises RateLimited, UsernameTaken, and EmailTaken only where the installation discloses that.
    """
    mailbox_key = ctx.limits.mailbox_key(command.email)
    if command.send_otp:
        await ctx.limits.take_mail(command.client, mailbox_key)
    else:
        await ctx.limits.take_call(command.client)
    subject_key = ctx.keys.subject_key(command.email.account_key)
    slot = slot_of_subject(subject_key)
    registration = Registration(
        id=new_id(slot),
        subject_key=subject_key,
        user_id=new_user_id(),
        full_name=command.full_name,
        username=command.username,
        email=command.email.address,
        locale=command.locale,
    )
    source = new_source(ctx, subject_key, new_id(slot))

    async def transaction(tx: Tx) -> Registered:
        owner_id = await tx.users.find_by_email(command.email.account_key)
        if owner_id is not None and ctx.settings.disclose_taken_email:
            raise EmailTaken
        held = await tx.registrations.hold_username(
            command.username, subject_key=subject_key, lifetime=REGISTRATION_LIFETIME
        )
        if not held:
            raise UsernameTaken
        expire_time = await tx.registrations.insert(registration, lifetime=REGISTRATION_LIFETIME)
        challenge = None
        if command.send_otp:
            proves_for = await signing_in(tx, owner_id)
            if owner_id is None:
                proves_for = ProvesFor(registration_id=registration.id)
            challenge = await issue(
                ctx, tx, source, proves_for, mailbox_key=mailbox_key, locale=command.locale
            )
        return Registered(registration.user_id, expire_time, challenge)

    registered = await ctx.database.run_tx(
        transaction, committed=lambda tx, _: tx.registrations.exists(registration.id)
    )
    if registered.challenge is not None:
        ctx.mail_queued()
    return registered
