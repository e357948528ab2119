"""Send and call limits in the use cases: who is counted for what, and what a refusal says.

The limiter never looks at accounts: a known and an unknown address are refused at the same call.
Units are taken before anything else is done, in a transaction of their own, so that nothing that
fails later gives them back.
"""

import math
from collections.abc import Sequence
from functools import partial

import structlog

from watchword.audit.refusals import Refusals
from watchword.crypto import KeyRing, PresentedCode, jitter_seconds
from watchword.errors import Overloaded, RateLimited, StorageUnavailable
from watchword.limits.gate import FirstGate
from watchword.limits.model import Bucket, LimitKind, Shortage, Window
from watchword.limits.policy import LimitsPolicy, client_network, site_network, windows
from watchword.login import auditing
from watchword.login.ports import Database, Tx
from watchword.otp.model import KnownDevice
from watchword.otp.policy import LONG_CODE_FORM
from watchword.sessions.model import Client
from watchword.users.model import EmailAddress
from watchword.users.rules import mailbox_of

# Of the wait: people who were refused together do not come back together.
JITTER = 0.1

_log = structlog.get_logger(__name__)


class Limits:
    """The limiter of this process; its counts are in the database and shared by all."""

    def __init__(
        self, database: Database, keys: KeyRing, policy: LimitsPolicy, refusals: Refusals
    ) -> None:
        self._database = database
        self._refusals = refusals
        self._keys = keys
        self._gate = FirstGate()
        self.enabled = policy.enabled
        self._dotless = frozenset(policy.dotless_domains.split(","))
        self._mailbox = windows(policy.mailbox_minute, policy.mailbox_hour, policy.mailbox_day)
        self._client_sends = windows(policy.client_sends)
        self._network_sends = windows(policy.client_network_sends)
        self._caller_sends = windows(policy.caller_sends)
        self._failures = windows(policy.client_failures)
        self._long_failures = windows(policy.long_code_failures)

    def mailbox_key(self, email: EmailAddress) -> bytes:
        """Returns what the mails to an address are counted by, whatever form it is written in."""
        mailbox = mailbox_of(email.account_key, dotless_domains=self._dotless)
        return self._keys.limit_key(LimitKind.MAILBOX, mailbox.encode())

    async def take_call(self, client: Client) -> None:
        """Counts a call that mails nothing; raises RateLimited."""
        await self._take(client, self._of_client(client))

    async def take_mail(
        self, client: Client, mailbox_key: bytes | None, device: KnownDevice | None = None
    ) -> None:
        """Counts a call that may mail something, whether or not it does; raises RateLimited.

        Without a key only the client is counted: the challenge is older than the limits. A known
        device is counted by itself and by nothing that it shares with strangers.
        """
        if device is not None:
            await self._take(client, [self._bucket(LimitKind.DEVICE, device.key, self._mailbox)])
            return
        buckets = self._of_client(client)
        if mailbox_key is not None:
            buckets.append(Bucket(LimitKind.MAILBOX, mailbox_key, self._mailbox))
        await self._take(client, buckets)

    async def take_failure(
        self, client: Client, code: PresentedCode, device: KnownDevice | None = None
    ) -> Sequence[Bucket]:
        """Counts a failure before anything is compared; returns what a success gives back."""
        buckets: list[Bucket] = []
        if device is not None:
            whose, who = LimitKind.DEVICE, device.key
            buckets.append(self._bucket(LimitKind.FAILURES, who, self._failures, of=whose))
        elif client.ip is None:
            whose, who = LimitKind.CALLER, client.caller.encode()
        else:
            whose, who = LimitKind.CLIENT, client_network(client.ip)
            buckets.append(self._bucket(LimitKind.FAILURES, who, self._failures))
        if code.form == LONG_CODE_FORM:
            buckets.append(self._bucket(LimitKind.LONG_CODE, who, self._long_failures, of=whose))
        # Not through the first gate: units come back, so that a refusal may end early.
        return await self._take(client, buckets, remember=False)

    async def give_back(self, taken: Sequence[Bucket]) -> None:
        """Gives back what was taken; nothing else depends on it, so a failure is logged alone."""
        try:
            for bucket in taken:
                await self._database.run_statement(partial(_give_back, bucket))
        except (StorageUnavailable, Overloaded) as error:
            _log.warning("a counted failure was not given back", error=type(error).__name__)

    def _of_client(self, client: Client) -> list[Bucket]:
        if client.ip is None:
            if self.enabled:
                self._refusals.note(auditing.client_ip_missing(client))
            who = client.caller.encode()
            return [self._bucket(LimitKind.CALLER, who, self._caller_sends)]
        network = client_network(client.ip)
        buckets = [self._bucket(LimitKind.CLIENT, network, self._client_sends)]
        site = site_network(client.ip)
        if site is not None:
            buckets.append(self._bucket(LimitKind.NETWORK, site, self._network_sends))
        return buckets

    def _bucket(
        self,
        kind: LimitKind,
        who: bytes,
        windows: tuple[Window, ...],
        *,
        of: LimitKind | None = None,
    ) -> Bucket:
        """Makes the bucket of somebody; `of` says of what kind, where several are counted alike."""
        label = kind if of is None else f"{kind}/{of}"
        return Bucket(kind, self._keys.limit_key(label, who), windows)

    async def _take(
        self, client: Client, buckets: Sequence[Bucket], *, remember: bool = True
    ) -> Sequence[Bucket]:
        """Takes a unit of each bucket that has a limit, of all or none; raises RateLimited."""
        counted = [bucket for bucket in buckets if bucket.windows] if self.enabled else []
        if not counted:
            return counted
        shortages: Sequence[Shortage] = self._gate.shortages(counted)
        if not shortages:
            asked = self._gate.now()
            shortages = await self._database.run_statement(lambda tx: tx.limits.take(counted))
            if remember:
                self._gate.remember(shortages, asked=asked)
        if shortages:
            for shortage in shortages:
                self._refusals.note(auditing.limit_reached(shortage.bucket.kind, client))
            longest = max(shortages, key=lambda shortage: shortage.wait)
            seconds = longest.wait.total_seconds()
            wait_seconds = math.ceil(seconds + jitter_seconds(JITTER * seconds))
            raise RateLimited(longest.bucket.kind, retry_after_seconds=max(1, wait_seconds))
        return counted


async def _give_back(bucket: Bucket, tx: Tx) -> None:
    await tx.limits.give_back(bucket)
