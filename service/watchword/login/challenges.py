"""Making a challenge and queueing its mail; Register and SendOtp both do it."""

from dataclasses import dataclass
from uuid import UUID

from watchword.crypto import CodeSource, new_id, new_nonce, slot_of, slot_of_subject
from watchword.login.context import LoginContext
from watchword.login.ports import Tx
from watchword.otp.model import IssuedChallenge, KnownDevice, NewChallenge, Purpose
from watchword.otp.policy import FAILURE_BUDGET, LONG_CODE_FORM


@dataclass(frozen=True, slots=True)
class SignsIn:
    """Whom a challenge signs in: a user, a registration, or with neither nobody (a shadow)."""

    user_id: UUID | None = None
    registration_id: UUID | None = None


NOBODY = SignsIn()


async def signing_in_owner(tx: Tx, user_id: UUID) -> SignsIn:
    """Signs in the owner of an address, whose own spelling of it then gets the mail.

    Nobody when the account is disabled: its challenges are shadows, by whichever RPC.
    """
    user = await tx.users.get(user_id)
    return SignsIn(user_id=user.id) if user is not None and user.active else NOBODY


def new_source(ctx: LoginContext, subject_key: bytes) -> CodeSource:
    """Draws the id and nonce of a sign-in challenge; its slot is the subject's.

    Before the transaction: one that is run again, or whose COMMIT was lost, keeps its id.
    """
    return CodeSource(
        key_id=ctx.keys.signing_key_id,
        purpose=Purpose.SIGN_IN,
        challenge_id=new_id(slot_of_subject(subject_key)),
        subject_key=subject_key,
        nonce=new_nonce(),
    )


async def issue(
    ctx: LoginContext,
    tx: Tx,
    source: CodeSource,
    signs_in: SignsIn,
    *,
    mailbox_key: bytes,
    locale: str | None,
    known_device: KnownDevice | None = None,
) -> IssuedChallenge:
    """Stores the challenge and, unless it is a shadow, queues its mail.

    A subject whose failure budget is spent gets a long code, whether or not there is an account; a
    known device has a budget of its own.
    """
    device_key = None if known_device is None else known_device.key
    spent = await tx.budgets.is_spent(
        device_key or source.subject_key, slot=slot_of(source.challenge_id), budget=FAILURE_BUDGET
    )
    issued = await tx.challenges.insert(
        NewChallenge(
            source=source,
            code_form=LONG_CODE_FORM if spent else ctx.otp.code_length,
            lifetime=ctx.otp.lifetime,
            user_id=signs_in.user_id,
            registration_id=signs_in.registration_id,
            mailbox_key=mailbox_key,
            device_key=device_key,
        )
    )
    if signs_in != NOBODY:
        await queue_mail(tx, issued.id, locale=locale)
    return issued


async def queue_mail(tx: Tx, challenge_id: UUID, *, locale: str | None) -> None:
    """Queues one mail with the challenge's code."""
    await tx.outbox.put(new_id(slot_of(challenge_id)), challenge_id=challenge_id, locale=locale)
