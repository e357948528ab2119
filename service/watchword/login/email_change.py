"""StartEmailChange and ConfirmEmailChange: another address for the user of a session.

Nothing is the user's before the new address is proved, and the answers do not tell whether it has
an account: whoever gets to know has read the mail to it.
"""

from dataclasses import dataclass, replace
from uuid import UUID

from watchword.audit.model import Action, Outcome
from watchword.changes.model import Change
from watchword.crypto import PresentedCode, new_id, slot_of, slot_of_subject
from watchword.errors import OtpInvalid, SessionInvalid
from watchword.login import auditing, changes
from watchword.login.addresses import end_codes, take_address
from watchword.login.challenges import ProvesFor, issue, new_source
from watchword.login.codes import Proven, charge_by_id, prove
from watchword.login.context import LoginContext
from watchword.login.ports import LiveSession, Tx
from watchword.login.sessions import live_session, presented_session
from watchword.otp.model import Charge, IssuedChallenge, Purpose
from watchword.roles.model import Grants
from watchword.sessions.model import Client, EndedSessions
from watchword.users.model import NOTICE_LIFETIME, EmailAddress, EmailChange, User


@dataclass(frozen=True, slots=True, kw_only=True)
class StartEmailChangeCommand:
    """What StartEmailChange was asked, validated."""

    session_token: str
    new_email: EmailAddress
    locale: str | None
    client: Client


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmEmailChangeCommand:
    """What ConfirmEmailChange was asked, validated."""

    session_token: str
    challenge_id: UUID
    code: PresentedCode
    client: Client


@dataclass(frozen=True, slots=True)
class EmailChanged:
    """The user with the new address, how many sessions that has ended, and its change token."""

    user: User
    grants: Grants
    revoked_count: int
    change_token: str


async def start_email_change(
    ctx: LoginContext, command: StartEmailChangeCommand
) -> IssuedChallenge:
    """Mails a code to the new address; what was wanted before is given up.

    Raises SessionInvalid, ReauthenticationNeeded and RateLimited.
    """
    live = await _recently(ctx, command.session_token)
    user_id = live.user.id
    mailbox_key = ctx.limits.mailbox_key(command.new_email)
    await ctx.limits.take_mail(command.client, mailbox_key)
    subject_key = ctx.keys.subject_key(command.new_email.account_key)
    challenge_id = new_id(slot_of_subject(subject_key))
    source = new_source(ctx, subject_key, challenge_id, Purpose.EMAIL_CHANGE)
    change = EmailChange(challenge_id, user_id, command.new_email.address)

    async def transaction(tx: Tx) -> IssuedChallenge:
        issued = await issue(
            ctx,
            tx,
            source,
            ProvesFor(changes_user_id=user_id),
            mailbox_key=mailbox_key,
            locale=command.locale,
        )
        assert issued is not None  # the id is new
        await _lock(ctx, tx, command.session_token, user_id)
        await tx.email_changes.begin(change, lifetime=ctx.otp.lifetime)
        return issued

    issued = await ctx.database.run_tx(
        transaction, committed=lambda tx, _: tx.challenges.exists(challenge_id)
    )
    ctx.mail_queued()
    return issued


async def confirm_email_change(
    ctx: LoginContext, command: ConfirmEmailChangeCommand
) -> EmailChanged:
    """Gives the user the proved address, ends the other sessions, and tells the old address.

    Raises SessionInvalid, ReauthenticationNeeded, RateLimited, OtpInvalid, whatever was wrong with
    the code, and EmailTaken after a right one.
    """
    live = await _recently(ctx, command.session_token)
    user_id = live.user.id

    async def charge(tx: Tx) -> Charge:
        return await charge_by_id(
            ctx, tx, command.challenge_id, command.code, purpose=Purpose.EMAIL_CHANGE
        )

    def refused(why: Outcome, charged: Charge) -> None:
        of = charged.sources[0].subject_key if charged.sources else command.challenge_id
        ctx.refusals.note(
            auditing.code_refused(Action.CHANGE_EMAIL, why, of, client=command.client)
        )

    wanted = await ctx.database.run_statement(
        lambda tx: tx.email_changes.find(user_id, command.challenge_id)
    )
    if wanted is None:
        # Somebody else's, or of no live one: nothing is charged to whomever it belongs to.
        refused(Outcome.NOT_LIVE_OR_SPENT, Charge())
        raise OtpInvalid
    proven = await prove(ctx, command.code, charge, client=command.client, refused=refused)
    changed = await _change(ctx, command, wanted, proven)
    ctx.mail_queued()
    await ctx.limits.give_back(proven.taken)
    return changed


async def _change(
    ctx: LoginContext,
    command: ConfirmEmailChangeCommand,
    wanted: EmailChange,
    proven: Proven,
) -> EmailChanged:
    event_id, outbox_id = new_id(slot_of(wanted.user_id)), new_id(slot_of(wanted.user_id))

    async def transaction(tx: Tx) -> tuple[User, Grants, EndedSessions, Change]:
        consumed = await tx.attempts.consume(
            wanted.id, subject_key=proven.source.subject_key, charge=proven.charge
        )
        if consumed is None:
            raise OtpInvalid
        await end_codes(tx, ctx.keys, wanted.user_id)
        user, session_id = await _lock(ctx, tx, command.session_token, wanted.user_id)
        if not await tx.email_changes.finish(wanted, old_email=user.email, kept=NOTICE_LIFETIME):
            raise OtpInvalid
        await take_address(tx, user, wanted.new_email)
        others = await tx.sessions.revoke_others(user.id, spared=session_id)
        raised = await tx.changes.raise_version(user.id)
        assert raised is not None  # the user is locked
        count = 0 if others is None else others.count
        ended = EndedSessions(count, user.id, raised.epoch, raised.version)
        event = auditing.email_changed(event_id, ended, client=command.client)
        change = changes.user_changed(raised)
        await tx.outbox.put_email_changed(outbox_id, user_id=user.id, email_change_id=wanted.id)
        await tx.audit.put(event)
        await tx.changes.put(change)
        changed = replace(user, email=wanted.new_email)
        return changed, await tx.roles.grants_of(user.id), ended, change

    user, grants, ended, change = await ctx.database.run_tx(
        transaction, committed=lambda tx, _: tx.audit.exists(event_id)
    )
    ctx.tell_cache(change)
    return EmailChanged(user, grants, ended.count, changes.token_of(ctx.keys, change))


async def _lock(ctx: LoginContext, tx: Tx, token: str, user_id: UUID) -> tuple[User, UUID]:
    """Locks the user of a session that is still live, and returns its id; raises SessionInvalid."""
    user = await tx.users.lock(user_id)
    presented = ctx.keys.parse_session_token(token)
    session = None if presented is None else await presented_session(ctx, tx, presented)
    if user is None or session is None:
        raise SessionInvalid
    return user, session.id


async def _recently(ctx: LoginContext, token: str) -> LiveSession:
    return await live_session(ctx, token, max_auth_age=ctx.sessions.recent_authentication)
