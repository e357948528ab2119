"""In which cluster this database is, and in which one it was last confirmed to be.

A cluster that a logical backup is restored into has another identifier. One that is recovered to a
moment, and a standby that takes over, have another timeline. A copy of the files that is started as
it was has neither.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

import asyncpg

from watchword.storage.pool import Connection

AnyConnection: TypeAlias = "Connection | asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What PostgreSQL tells apart clusters by, and their histories."""

    system_identifier: int
    timeline_id: int


@dataclass(frozen=True, slots=True)
class ConfirmedCluster:
    """The cluster that was right at `time`."""

    cluster: Cluster
    time: datetime


PRESENT = """
    SELECT s.system_identifier, c.timeline_id
    FROM pg_control_system() AS s
    CROSS JOIN pg_control_checkpoint() AS c
"""


async def present_cluster(connection: AnyConnection) -> Cluster | None:
    """Returns the present one; None when this role may not ask. Not within a transaction."""
    try:
        row = await connection.fetchrow(PRESENT)
    except asyncpg.InsufficientPrivilegeError:
        return None
    assert row is not None  # each function has one row
    return Cluster(**row)


CONFIRMED = """
    SELECT system_identifier, timeline_id, cluster_confirmed_time
    FROM installation
    WHERE id = 1 AND system_identifier IS NOT NULL
"""


async def confirmed_cluster(connection: AnyConnection) -> ConfirmedCluster | None:
    """Returns what was confirmed last; None when nothing was."""
    row = await connection.fetchrow(CONFIRMED)
    if row is None:
        return None
    system_identifier, timeline_id, time = row
    return ConfirmedCluster(Cluster(system_identifier, timeline_id), time)


# $1 system identifier, $2 timeline: a node of Citus that asked for them here would find its own.
RECORD = """
    UPDATE installation
    SET system_identifier = $1, timeline_id = $2, cluster_confirmed_time = now()
    WHERE id = 1 AND system_identifier IS NULL
"""


async def record_cluster(connection: AnyConnection) -> None:
    """Takes the present cluster for the right one where none was confirmed before."""
    cluster = await present_cluster(connection)
    if cluster is not None:
        await connection.execute(RECORD, cluster.system_identifier, cluster.timeline_id)


# $1 system identifier, $2 timeline
CONFIRM = """
    UPDATE installation
    SET system_identifier = $1, timeline_id = $2, cluster_confirmed_time = now()
    WHERE id = 1
"""


async def confirm_cluster(connection: AnyConnection) -> bool:
    """Takes the present cluster for the right one; False when this role may not ask for it."""
    cluster = await present_cluster(connection)
    if cluster is not None:
        await connection.execute(CONFIRM, cluster.system_identifier, cluster.timeline_id)
    return cluster is not None
