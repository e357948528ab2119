"""How many mails leave: of the whole installation, and to the addresses of one domain.

Counted over all replicas by the same limiter as calls. Nobody is refused for it: mail waits, and
the RPC that queued it has long answered.
"""

from datetime import timedelta

from watchword.crypto import KeyRing
from watchword.errors import Overloaded
from watchword.limits.model import Bucket, LimitKind
from watchword.limits.policy import LimitsPolicy, windows
from watchword.login.ports import Database

# When so many replicas count at once that one of them could not.
BUSY_WAIT = timedelta(milliseconds=100)


class MailLimits:
    """The limits of the dispatcher."""

    def __init__(self, database: Database, keys: KeyRing, policy: LimitsPolicy) -> None:
        self._database = database
        self._keys = keys
        self._enabled = policy.enabled
        self._installation = windows(policy.installation_mails)
        self._domain = windows(policy.domain_mails)
        self._exempt = frozenset(policy.domain_exempt.split(","))

    async def take(self, address: str, *, known_device: bool) -> timedelta | None:
        """Counts a mail to the address; None when it may leave, else how long it has to wait.

        What a known device asked for has the device's own limit in place of the domain's, which
        strangers can keep spent: at one unit in two seconds they would always be there first.
        """
        buckets = [bucket for bucket in self._buckets(address, known_device) if bucket.windows]
        if not self._enabled or not buckets:
            return None
        try:
            shortages = await self._database.run_statement(lambda tx: tx.limits.take(buckets))
        except Overloaded:
            return BUSY_WAIT
        return max((shortage.wait for shortage in shortages), default=None)

    def _buckets(self, address: str, known_device: bool) -> list[Bucket]:
        # A stored address has its domain in lower case, as A-labels.
        domain = address.rpartition("@")[2]
        buckets = [self._bucket(LimitKind.INSTALLATION_MAILS, b"")]
        if not known_device and domain not in self._exempt:
            buckets.append(self._bucket(LimitKind.DOMAIN_MAILS, domain.encode()))
        return buckets

    def _bucket(self, kind: LimitKind, who: bytes) -> Bucket:
        counted = self._installation if kind is LimitKind.INSTALLATION_MAILS else self._domain
        return Bucket(kind, self._keys.limit_key(kind, who), counted)
