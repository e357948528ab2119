"""What another address for a user takes, whoever asks for it: the identifier, an end of the codes
to the old one, and a mail to it.
"""

from uuid import UUID

from watchword.crypto import KeyRing
from watchword.errors import EmailTaken
from watchword.login.ports import Tx
from watchword.users.model import NOTICE_LIFETIME, EmailChange, User
from watchword.users.rules import account_key_of


async def end_codes(tx: Tx, keys: KeyRing, user_id: UUID, *, unless: str | None = None) -> None:
    """Ends the challenges of the address that the user still has, unless it is this one. Before the
    user is locked, as a sign-in does; one that is made meanwhile signs nobody in (verify_otp.py).
    """
    user = await tx.users.get(user_id)
    if user is not None and user.email != unless:
        await tx.challenges.end_all(keys.subject_key(account_key_of(user.email)))


async def take_address(tx: Tx, user: User, new_email: str) -> None:
    """Makes the address the locked user's and frees the old one; raises EmailTaken."""
    old_key, new_key = account_key_of(user.email), account_key_of(new_email)
    if new_key != old_key:
        if not await tx.users.claim_email(new_key, user_id=user.id):
            raise EmailTaken
        await tx.users.release_email(old_key, user_id=user.id)
    await tx.users.set_email(user.id, new_email)


async def tell_old_address(tx: Tx, change: EmailChange, *, old_email: str, outbox_id: UUID) -> None:
    """Queues the notice of a change that nobody had to prove."""
    await tx.email_changes.begin(change, lifetime=NOTICE_LIFETIME)
    await tx.email_changes.finish(change, old_email=old_email, kept=NOTICE_LIFETIME)
    await tx.outbox.put_email_changed(outbox_id, user_id=change.user_id, email_change_id=change.id)
