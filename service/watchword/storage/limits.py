"""Buckets of the limiter; limits/model.py says how they count.

A transaction here is short and only ever upserts rows in the order of their keys. One row decides
for itself whether it has room, so READ COMMITTED is enough at every setting of the pool: whoever
waited for the row sees its newest version. At the higher levels waiting would end in 40001.
"""

from collections.abc import Sequence
from datetime import timedelta

import asyncpg
from asyncpg import exceptions as pg

from watchword.errors import Overloaded
from watchword.limits.model import Bucket, Shortage
from watchword.storage.pool import Connection

WINDOWS_MAX = 3
_MICROSECOND = timedelta(microseconds=1)


class LimitStore:
    """Implements watchword.limits.ports.LimitStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # Together in one round trip. Milliseconds: whoever waits longer for a row is refused.
    BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = 100"
    COMMIT = "COMMIT TRANSACTION"
    ROLLBACK = "ROLLBACK TRANSACTION"

    # $1 keys; $2 step and $3 slack of the first window, $4 and $5 of the second, $6 and $7 of the
    # third, NULL where a key has fewer. Room is: tat <= now + slack, where now is EXCLUDED.tat -
    # EXCLUDED.step; NULL is room. Sorted: two calls with the same keys would deadlock otherwise.
    TAKE = """
        INSERT INTO rate_limits AS r (key, step1_us, slack1_us, tat1_us, step2_us, slack2_us,
                                      tat2_us, step3_us, slack3_us, tat3_us)
        SELECT k.key,
               k.step1, k.slack1, (extract(epoch FROM now()) * 1000000)::bigint + k.step1,
               k.step2, k.slack2, (extract(epoch FROM now()) * 1000000)::bigint + k.step2,
               k.step3, k.slack3, (extract(epoch FROM now()) * 1000000)::bigint + k.step3
        FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
                    $6::bigint[], $7::bigint[])
             AS k(key, step1, slack1, step2, slack2, step3, slack3)
        ORDER BY k.key
        ON CONFLICT (key) DO UPDATE
        SET step1_us = EXCLUDED.step1_us,
            slack1_us = EXCLUDED.slack1_us,
            tat1_us = GREATEST(r.tat1_us + EXCLUDED.step1_us, EXCLUDED.tat1_us),
            step2_us = EXCLUDED.step2_us,
            slack2_us = EXCLUDED.slack2_us,
            tat2_us = GREATEST(r.tat2_us + EXCLUDED.step2_us, EXCLUDED.tat2_us),
            step3_us = EXCLUDED.step3_us,
            slack3_us = EXCLUDED.slack3_us,
            tat3_us = GREATEST(r.tat3_us + EXCLUDED.step3_us, EXCLUDED.tat3_us)
        WHERE (r.tat1_us <= EXCLUDED.tat1_us - EXCLUDED.step1_us + EXCLUDED.slack1_us) IS NOT FALSE
          AND (r.tat2_us <= EXCLUDED.tat2_us - EXCLUDED.step2_us + EXCLUDED.slack2_us) IS NOT FALSE
          AND (r.tat3_us <= EXCLUDED.tat3_us - EXCLUDED.step3_us + EXCLUDED.slack3_us) IS NOT FALSE
        RETURNING r.key
    """

    # How far the arrival times lie ahead; more than the slack is no room.
    AHEAD = """
        SELECT key,
               tat1_us - (extract(epoch FROM now()) * 1000000)::bigint AS ahead1_us,
               tat2_us - (extract(epoch FROM now()) * 1000000)::bigint AS ahead2_us,
               tat3_us - (extract(epoch FROM now()) * 1000000)::bigint AS ahead3_us
        FROM rate_limits
        WHERE key = ANY($1::bytea[])
    """

    async def take(self, buckets: Sequence[Bucket]) -> Sequence[Shortage]:
        lacking = await self._take_all(buckets)
        if not lacking:
            return []
        rows = await self._connection.fetch(self.AHEAD, [bucket.key for bucket in lacking])
        ahead = {row["key"]: row for row in rows}
        # A bucket that is gone or has drained since is one that needs no wait.
        return [Shortage(bucket, _wait(bucket, ahead.get(bucket.key))) for bucket in lacking]

    async def _take_all(self, buckets: Sequence[Bucket]) -> list[Bucket]:
        """Takes a unit of each and commits, or of none and returns those without room."""
        await self._connection.execute(self.BEGIN)
        try:
            rows = await self._connection.fetch(self.TAKE, *_columns(buckets))
            taken = {row["key"] for row in rows}
            lacking = [bucket for bucket in buckets if bucket.key not in taken]
            if not lacking:
                await self._connection.execute(self.COMMIT)
        except pg.QueryCanceledError as error:
            await self._connection.execute(self.ROLLBACK)
            raise Overloaded from error
        except asyncpg.PostgresError:
            if not self._connection.is_closed():
                await self._connection.execute(self.ROLLBACK)
            raise
        if lacking:
            await self._connection.execute(self.ROLLBACK)
        return lacking

    # $1 key; $2, $3 and $4 the steps of its windows. What others took meanwhile stays counted.
    GIVE_BACK = """
        UPDATE rate_limits
        SET tat1_us = tat1_us - $2::bigint,
            tat2_us = tat2_us - $3::bigint,
            tat3_us = tat3_us - $4::bigint
        WHERE key = $1
    """

    async def give_back(self, bucket: Bucket) -> None:
        steps = [_window(bucket, number)[0] for number in range(WINDOWS_MAX)]
        await self._connection.execute(self.GIVE_BACK, bucket.key, *steps)


def _columns(buckets: Sequence[Bucket]) -> list[list[bytes] | list[int | None]]:
    """Returns the parameters of TAKE, in the order of the keys."""
    ordered = sorted(buckets, key=lambda bucket: bucket.key)
    columns: list[list[bytes] | list[int | None]] = [[bucket.key for bucket in ordered]]
    for number in range(WINDOWS_MAX):
        windows = [_window(bucket, number) for bucket in ordered]
        columns.append([step_us for step_us, _ in windows])
        columns.append([slack_us for _, slack_us in windows])
    return columns


def _window(bucket: Bucket, number: int) -> tuple[int | None, int | None]:
    """Returns step and slack of a window, NULL where the bucket has fewer."""
    if number >= len(bucket.windows):
        return None, None
    window = bucket.windows[number]
    return window.step_us, window.slack_us


def _wait(bucket: Bucket, ahead: asyncpg.Record | None) -> timedelta:
    waits_us = [0]
    for number, window in enumerate(bucket.windows, start=1):
        ahead_us = None if ahead is None else ahead[f"ahead{number}_us"]
        if ahead_us is not None:
            waits_us.append(ahead_us - window.slack_us)
    return max(waits_us) * _MICROSECOND
