"""The wrong codes of everybody, in stripes of buckets, and the level of codes.

Counts are rounded against the guesser: the last minute is 6 whole buckets of ten seconds and what
the seventh has so far, the last 24 hours likewise. A count that was delayed goes to the newest
bucket.
"""

from datetime import timedelta

from watchword.otp.level import Alarm, CodeLevel
from watchword.storage.pool import Connection

_MICROSECOND = timedelta(microseconds=1)
_TEN_SECONDS_US = timedelta(seconds=10) // _MICROSECOND
_HOUR_US = timedelta(hours=1) // _MICROSECOND
_TENS = 7
_HOURS = 25


class InstallationStore:
    """Implements watchword.otp.ports.InstallationStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # $1 stripe, $2 wrong codes; $3 ten seconds and $4 how many buckets of them; $5 an hour and $6
    # how many buckets of it. Periods are in microseconds.
    # The buckets move by what the number of the newest one moves. The first of them is kept where
    # that is nothing: before the first element of an array there is NULL.
    COUNT = """
        INSERT INTO failure_counts AS f (stripe, tens_number, tens, hours_number, hours)
        SELECT $1, us / $3::bigint, ARRAY[$2::integer], us / $5::bigint, ARRAY[$2::integer]
        FROM (SELECT (extract(epoch FROM now()) * 1000000)::bigint AS us) AS present
        ON CONFLICT (stripe) DO UPDATE
        SET tens_number = GREATEST(f.tens_number, EXCLUDED.tens_number),
            tens = ARRAY[
                    EXCLUDED.tens[1] + COALESCE(
                        f.tens[1 - GREATEST(EXCLUDED.tens_number - f.tens_number, 0)::integer], 0)
                ] || (
                    array_fill(0, ARRAY[
                        LEAST(GREATEST(EXCLUDED.tens_number - f.tens_number, 0), $4)::integer])
                    || f.tens
                )[2:$4::integer],
            hours_number = GREATEST(f.hours_number, EXCLUDED.hours_number),
            hours = ARRAY[
                    EXCLUDED.hours[1] + COALESCE(
                        f.hours[1 - GREATEST(EXCLUDED.hours_number - f.hours_number, 0)::integer],
                        0)
                ] || (
                    array_fill(0, ARRAY[
                        LEAST(GREATEST(EXCLUDED.hours_number - f.hours_number, 0), $6)::integer])
                    || f.hours
                )[2:$6::integer]
    """

    async def count_failures(self, stripe: int, units: int) -> None:
        await self._connection.execute(
            self.COUNT, stripe, units, _TEN_SECONDS_US, _TENS, _HOUR_US, _HOURS
        )

    # $1 ten seconds and $2 how many buckets of them, $3 an hour and $4 how many buckets of it, in
    # microseconds. Of each stripe the buckets are added up that are not too old by now.
    ALARM = """
        SELECT i.eight_digits_until_us - us AS eight_digits_left_us,
               i.long_codes_until_us - us AS long_codes_left_us,
               (SELECT COALESCE(sum(units), 0)
                FROM failure_counts AS f
                CROSS JOIN unnest(f.tens[:(f.tens_number + $2 - us / $1::bigint)::integer])
                    AS t (units)) AS in_minute,
               (SELECT COALESCE(sum(units), 0)
                FROM failure_counts AS f
                CROSS JOIN unnest(f.hours[:(f.hours_number + $4 - us / $3::bigint)::integer])
                    AS h (units)) AS in_day
        FROM installation AS i
        CROSS JOIN (SELECT (extract(epoch FROM now()) * 1000000)::bigint AS us) AS present
        WHERE i.id = 1
    """

    async def alarm(self) -> Alarm:
        row = await self._connection.fetchrow(self.ALARM, _TEN_SECONDS_US, _TENS, _HOUR_US, _HOURS)
        assert row is not None  # the migration has made the row
        return Alarm(
            eight_digits_left=row["eight_digits_left_us"] * _MICROSECOND,
            long_codes_left=row["long_codes_left_us"] * _MICROSECOND,
            in_minute=row["in_minute"],
            in_day=row["in_day"],
        )

    # $1 how long from now new codes have 8 digits, $2 how long 13 characters, in microseconds; the
    # latter NULL where that level is not reached, whose end then stays as it is.
    RAISE = """
        UPDATE installation
        SET eight_digits_until_us = (extract(epoch FROM now()) * 1000000)::bigint + $1::bigint,
            long_codes_until_us = GREATEST(
                long_codes_until_us, (extract(epoch FROM now()) * 1000000)::bigint + $2::bigint)
        WHERE id = 1
          AND (eight_digits_until_us <= (extract(epoch FROM now()) * 1000000)::bigint
               OR ($2::bigint IS NOT NULL
                   AND long_codes_until_us <= (extract(epoch FROM now()) * 1000000)::bigint))
        RETURNING id
    """

    async def raise_level(self, level: CodeLevel, *, lasts: timedelta) -> bool:
        raised = await self._connection.fetchval(self.RAISE, *_lasting(level, lasts))
        return raised is not None

    # As above, $1 for 8 digits and $2 for 13 characters; $3 how long ago, in microseconds, the end
    # must have been moved. Only a level that still holds is moved: raising one is another matter.
    EXTEND = """
        UPDATE installation
        SET eight_digits_until_us = (extract(epoch FROM now()) * 1000000)::bigint + $1::bigint,
            long_codes_until_us = GREATEST(
                long_codes_until_us, (extract(epoch FROM now()) * 1000000)::bigint + $2::bigint)
        WHERE id = 1
          AND eight_digits_until_us > (extract(epoch FROM now()) * 1000000)::bigint
          AND ($2::bigint IS NULL
               OR long_codes_until_us > (extract(epoch FROM now()) * 1000000)::bigint)
          AND (eight_digits_until_us + $3::bigint
               < (extract(epoch FROM now()) * 1000000)::bigint + $1::bigint
               OR long_codes_until_us + $3::bigint
               < (extract(epoch FROM now()) * 1000000)::bigint + $2::bigint)
    """

    async def extend_level(
        self, level: CodeLevel, *, lasts: timedelta, not_within: timedelta
    ) -> None:
        await self._connection.execute(
            self.EXTEND, *_lasting(level, lasts), not_within // _MICROSECOND
        )


def _lasting(level: CodeLevel, lasts: timedelta) -> tuple[int, int | None]:
    """Returns how long both levels last, in microseconds: the higher one includes the lower."""
    lasts_us = lasts // _MICROSECOND
    return lasts_us, lasts_us if level is CodeLevel.LONG_CODES else None
