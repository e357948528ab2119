"""Makes rows older: the database's clock decides every lifetime, so tests move the rows."""

from datetime import timedelta

import asyncpg

AGE_INSTALLATION = """
    UPDATE installation
    SET eight_digits_until_us = eight_digits_until_us - $1,
        long_codes_until_us = long_codes_until_us - $1
"""
# By whole buckets: what is left over of a time that is none stays.
AGE_COUNTS = """
    UPDATE failure_counts
    SET tens_number = tens_number - $1::bigint / 10000000,
        hours_number = hours_number - $1::bigint / 3600000000
"""


async def age(database_url: str, by: timedelta) -> None:
    """Moves every time of every row into the past, as if `by` had gone by since."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            columns = await connection.fetch(
                """
                SELECT table_name, column_name
                FROM information_schema.columns
                WHERE table_schema = 'public' AND data_type = 'timestamp with time zone'
                  AND table_name <> 'schema_migrations'
                """
            )
            for table, column in columns:
                await connection.execute(
                    f'UPDATE "{table}" SET "{column}" = "{column}" - $1::interval', by
                )
            await connection.execute(
                "UPDATE identifiers SET hold_expire_us = hold_expire_us - $1",
                by // timedelta(microseconds=1),
            )
            await connection.execute(
                """
                UPDATE subject_budgets
                SET failures = ARRAY(
                        SELECT at - $1 FROM unnest(failures) WITH ORDINALITY AS f (at, n) ORDER BY n
                    ),
                    failures_by_email = ARRAY(
                        SELECT at - $1
                        FROM unnest(failures_by_email) WITH ORDINALITY AS f (at, n)
                        ORDER BY n
                    )
                """,
                by // timedelta(microseconds=1),
            )
            await connection.execute(
                """
                UPDATE rate_limits
                SET tat1_us = tat1_us - $1, tat2_us = tat2_us - $1, tat3_us = tat3_us - $1
                """,
                by // timedelta(microseconds=1),
            )
            await connection.execute(AGE_INSTALLATION, by // timedelta(microseconds=1))
            await connection.execute(AGE_COUNTS, by // timedelta(microseconds=1))
    finally:
        await connection.close()
