"""The database's time, for what an operator says by spans."""

from datetime import datetime, timedelta

from watchword.login.ports import Database


async def present_time(database: Database) -> datetime:
    """Returns the database's time."""
    return await database.run_statement(lambda tx: tx.purge.present())


async def end_after(database: Database, lifetime: timedelta | None) -> datetime | None:
    """Returns the database's time after this span; None without one."""
    return None if lifetime is None else await present_time(database) + lifetime
