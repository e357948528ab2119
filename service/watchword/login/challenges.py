"""Making a challenge and queueing its mail; Register and SendOtp both do it."""

from dataclasses import dataclass
from uuid import UUID

from watchword.crypto import CodeSource, new_id, new_nonce, new_user_id, slot_of
from watchword.login.context import LoginContext
from watchword.login.ports import Tx
from watchword.otp.level import code_form
from watchword.otp.model import IssuedChallenge, KnownDevice, NewChallenge, Purpose
from watchword.otp.policy import FAILURE_BUDGET


@dataclass(frozen=True, slots=True)
class ProvesFor:
    """Whom a challenge proves an address for: a user or a registration that it signs in, or a user
    whose address it changes; with none of them nobody (a shadow).
    """

    user_id: UUID | None = None
    registration_id: UUID | None = None
    changes_user_id: UUID | None = None


NOBODY = ProvesFor()


async def signing_in(tx: Tx, owner_id: UUID | None) -> ProvesFor:
    """Signs in the owner of an address, whose own spelling of it then gets the mail.

    Nobody when the account is disabled: its challenges are shadows, by whichever RPC. Without an
    owner the look-up is the same, for an id that nobody has.
    """
    user = await tx.users.get(new_user_id() if owner_id is None else owner_id)
    return ProvesFor(user_id=user.id) if user is not None and user.active else NOBODY


def new_source(
    ctx: LoginContext,
    subject_key: bytes,
    challenge_id: UUID,
    purpose: Purpose = Purpose.SIGN_IN,
) -> CodeSource:
    """Draws the nonce of a challenge, whose slot is the subject's.

    Before the transaction, like the id: one that is run again, or whose COMMIT was lost, keeps it.
    """
    return CodeSource(
        key_id=ctx.keys.signing_key_id,
        purpose=purpose,
        challenge_id=challenge_id,
        subject_key=subject_key,
        nonce=new_nonce(),
    )


async def issue(
    ctx: LoginContext,
    tx: Tx,
    source: CodeSource,
    proves_for: ProvesFor,
    *,
    mailbox_key: bytes,
    locale: str | None,
    known_device: KnownDevice | None = None,
) -> IssuedChallenge | None:
    """Stores the challenge and queues its mail; None when its id was stored before.

    A subject whose failure budget is spent gets a long code, whether or not there is an account; a
    known device has a budget of its own. The installation's level makes the codes of all longer.
    """
    device_key = None if known_device is None else known_device.key
    standing = await tx.budgets.standing(
        device_key or source.subject_key, slot=slot_of(source.challenge_id), budget=FAILURE_BUDGET
    )
    issued = await tx.challenges.insert(
        NewChallenge(
            source=source,
            code_form=code_form(ctx.otp, standing, known_device=known_device is not None),
            lifetime=ctx.otp.lifetime,
            user_id=proves_for.user_id,
            registration_id=proves_for.registration_id,
            changes_user_id=proves_for.changes_user_id,
            mailbox_key=mailbox_key,
            device_key=device_key,
        )
    )
    if issued is not None:
        await queue_mail(
            tx,
            issued.id,
            outbox_id=new_id(slot_of(issued.id)),
            locale=locale,
            is_shadow=proves_for == NOBODY,
            known_device=known_device is not None,
        )
    return issued


async def queue_mail(
    tx: Tx,
    challenge_id: UUID,
    *,
    outbox_id: UUID,
    locale: str | None,
    is_shadow: bool,
    known_device: bool,
) -> None:
    """Queues one mail with the challenge's code; for a shadow only the same work is done."""
    await tx.outbox.put(
        outbox_id,
        challenge_id=challenge_id,
        locale=locale,
        is_shadow=is_shadow,
        known_device=known_device,
    )
