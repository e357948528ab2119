"""Sends what the outbox holds: lease, derive the code, look the address up, render, send, mark.

Several replicas may do so at once: each takes candidates in an order of its own and leases each by
a conditional UPDATE, whose lease id fences off one that was too slow. A mail is tried until its
code is used, ended or expired. Those that a known device asked for go first.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from itertools import groupby

import structlog

from watchword.crypto import KeyRing, jitter_seconds, new_id, shuffled
from watchword.errors import Overloaded, StorageUnavailable
from watchword.jobs.mail_limits import MailLimits
from watchword.login.ports import Database
from watchword.mail.locales import available, negotiate
from watchword.mail.message import Message, MessageRejected
from watchword.mail.outbox import (
    Candidate,
    CodeMail,
    EmailChangedMail,
    LeasedMail,
    OutboxKey,
    Recipient,
)
from watchword.mail.ports import Sender, SendFailed, SendRefused
from watchword.mail.rendering import Renderer
from watchword.users.rules import account_key_of

# A new mail of this process is seen at once; those of a replica that died, within this.
POLL_SECONDS = 1.0
BATCH = 200
CONCURRENT_MAX = 8
# Two providers may hang one after the other (senders/failover.py); the lease has to outlast both,
# and the wait for a limit before.
SEND_TIMEOUT_SECONDS = 25.0
LIMIT_WAIT_SECONDS = 1.0
LEASE_LIFETIME = timedelta(seconds=30)
DRAIN_SECONDS = 5.0
MARK_AGAIN_SECONDS = 0.2
RETRY_FIRST_SECONDS = 1.0
RETRY_MAX_SECONDS = 30.0

_log = structlog.get_logger(__name__)


class MailDispatcher:
    """The dispatcher of this process; `wake` saves it the wait for the next poll."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        renderer: Renderer,
        senders: Sequence[Sender],
        limits: MailLimits,
        *,
        code_lifetime: timedelta,
    ) -> None:
        self._database = database
        self._keys = keys
        self._renderer = renderer
        self._senders = senders
        self._limits = limits
        self._code_lifetime = code_lifetime
        self._wake = asyncio.Event()
        self._under_way: set[OutboxKey] = set()
        self._draining = False

    def wake(self) -> None:
        """Says that a mail was queued."""
        self._wake.set()

    async def run(self) -> None:
        """Sends for ever; a database that is gone is waited for."""
        places = asyncio.Semaphore(CONCURRENT_MAX)

        async def deliver(candidate: Candidate) -> None:
            try:
                await self._lease_and_send(candidate)
            finally:
                self._under_way.discard(candidate.key)
                places.release()

        clock = asyncio.get_running_loop().time
        async with asyncio.TaskGroup() as deliveries:
            while True:
                self._wake.clear()
                candidates = await self._candidates()
                asked = clock()
                outdated = False
                # One slow mail keeps its own place and no other: the next begins as one comes free.
                for candidate in _in_turn(candidates):
                    if candidate.key in self._under_way:
                        continue
                    await places.acquire()
                    # Somebody who goes first may have come meanwhile.
                    outdated = clock() - asked > POLL_SECONDS
                    if self._draining or outdated:
                        places.release()
                        break
                    self._under_way.add(candidate.key)
                    deliveries.create_task(deliver(candidate))
                if self._draining or not (outdated or len(candidates) == BATCH):
                    await self._wait()

    async def drain(self) -> None:
        """Begins no further mail; returns when those under way have ended, or after 5 seconds.

        One that is cut off later may have been taken already, and leave a second time.
        """
        self._draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._under_way:
                    await asyncio.sleep(0.02)

    async def _candidates(self) -> Sequence[Candidate]:
        try:
            return await self._database.run_statement(lambda tx: tx.outbox.candidates(limit=BATCH))
        except (StorageUnavailable, Overloaded):
            return ()

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._wake.wait()

    async def _lease_and_send(self, candidate: Candidate) -> None:
        key = candidate.key
        try:
            mail = await self._database.run_statement(
                lambda tx: tx.outbox.lease(
                    candidate, lease_id=new_id(key.slot), lifetime=LEASE_LIFETIME
                )
            )
            if mail is not None:
                await self._send(mail)
        except (StorageUnavailable, Overloaded):
            # The lease ends by itself, then the mail is a candidate again.
            _log.warning("mail put off", outbox_id=key.id)
        except Exception:
            # One mail that trips a defect must not stop the others, nor, by dying again and again,
            # the process. It too comes back when its lease ends, until its code has expired.
            _log.exception("mail put off by a defect", outbox_id=key.id)

    async def _send(self, mail: LeasedMail) -> None:
        clock = asyncio.get_running_loop().time
        ends = clock() + mail.time_left.total_seconds()
        message = await self._compose(mail)
        if message is None:
            await self._database.run_statement(lambda tx: tx.outbox.drop(mail))
            return
        if not await self._may_leave(mail, message):
            return
        async with AsyncExitStack() as taken:
            try:
                # Not a moment after the code's end, however long a provider takes.
                async with asyncio.timeout_at(min(clock() + SEND_TIMEOUT_SECONDS, ends)):
                    for sender in self._senders:
                        await taken.enter_async_context(sender.send(message))
            except (SendFailed, TimeoutError) as error:
                asked = error.retry_after if isinstance(error, SendFailed) else None
                delay = _retry_delay(mail.attempts, asked)
                _log.warning("mail failed", outbox_id=mail.key.id, error=_words(error))
                await self._database.run_statement(
                    lambda tx: tx.outbox.retry_later(mail, delay=delay)
                )
            except SendRefused as error:
                _log.error("mail refused", outbox_id=mail.key.id, error=_words(error))
                await self._database.run_statement(lambda tx: tx.outbox.drop(mail))
            else:
                await self._mark_sent(mail)
                _log.info("mail sent", outbox_id=mail.key.id, attempts=mail.attempts)

    async def _may_leave(self, mail: LeasedMail, message: Message) -> bool:
        """Waits for a turn; where that takes longer, the mail goes back and its place to others."""
        clock = asyncio.get_running_loop().time
        give_back = clock() + LIMIT_WAIT_SECONDS
        while True:
            wait = await self._limits.take(message.recipient, known_device=mail.known_device)
            if wait is None:
                return True
            if clock() + wait.total_seconds() > give_back:
                break
            await asyncio.sleep(wait.total_seconds())
        # A known device comes back at the first moment, the others spread out.
        delay = wait if mail.known_device else _retry_delay(mail.attempts, wait)
        _log.info("mail waits for a limit", outbox_id=mail.key.id)
        await self._database.run_statement(lambda tx: tx.outbox.retry_later(mail, delay=delay))
        return False

    async def _mark_sent(self, mail: LeasedMail) -> None:
        """Notes it, tried again while the code lives: a mail without the note is sent again."""
        clock = asyncio.get_running_loop().time
        give_up = clock() + mail.time_left.total_seconds()
        while True:
            try:
                await self._database.run_statement(lambda tx: tx.outbox.mark_sent(mail))
                return
            except (StorageUnavailable, Overloaded):
                if clock() > give_up:
                    raise
                await asyncio.sleep(MARK_AGAIN_SECONDS)

    async def _compose(self, mail: LeasedMail) -> Message | None:
        """Returns the mail; None when nobody waits for it any more or it can't be written."""
        if not mail.wanted:
            _log.info("mail dropped", outbox_id=mail.key.id, why="challenge over")
            return None
        recipient = await self._database.run_statement(lambda tx: tx.outbox.recipient(mail))
        if recipient is None:
            _log.info("mail dropped", outbox_id=mail.key.id, why="no active recipient")
            return None
        try:
            return self._render(mail, recipient)
        except (MessageRejected, ValueError) as error:
            # A key that has left the ring too early, or an address that no mail can carry.
            _log.error("mail dropped", outbox_id=mail.key.id, why=str(error))
            return None

    def _render(self, mail: LeasedMail, recipient: Recipient) -> Message | None:
        locale = negotiate(mail.locale, recipient.locale, available())
        match mail.about:
            case CodeMail(source=source, code_length=length, changes_user_id=changes_user_id):
                subject_key = self._keys.subject_key(account_key_of(recipient.address))
                if subject_key != source.subject_key:
                    # The user has another address by now, and a code is for the one it proves.
                    _log.info("mail dropped", outbox_id=mail.key.id, why="address changed")
                    return None
                return self._renderer.code_mail(
                    "otp" if changes_user_id is None else "email_change",
                    id=mail.key.id,
                    recipient=recipient.address,
                    code=self._keys.derive_code(source, length=length).reveal(),
                    lifetime=self._code_lifetime,
                    locale=locale,
                    date=mail.queued_time,
                )
            case EmailChangedMail():
                return self._renderer.email_changed_mail(
                    id=mail.key.id,
                    recipient=recipient.address,
                    locale=locale,
                    date=mail.queued_time,
                )


def _in_turn(candidates: Sequence[Candidate]) -> Iterator[Candidate]:
    """Known devices first; among equals an order of this process's own, or all would collide."""
    for _, equals in groupby(candidates, key=lambda candidate: candidate.known_device):
        yield from shuffled(list(equals))


def _retry_delay(attempts: int, retry_after: timedelta | None = None) -> timedelta:
    """Doubles from attempt to attempt, half of it by chance; never less than was asked for."""
    ceiling = min(RETRY_MAX_SECONDS, RETRY_FIRST_SECONDS * 2 ** min(attempts - 1, 10))
    least = ceiling / 2
    if retry_after is not None:
        least = max(least, retry_after.total_seconds())
    return timedelta(seconds=least + jitter_seconds(ceiling / 2))


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
