"""What is alive by which key of the ring, so that nobody drops a key too early."""

from collections.abc import Sequence
from datetime import timedelta

import asyncpg

from watchword.login.ports import KeyUse
from watchword.storage.pool import Connection


class KeyUseStore:
    """Implements watchword.login.ports.KeyUseStore."""

    def __init__(self, connection: "Connection | asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection

    # $1 slots, $2 idle lifetime. Sessions are live as in LiveSessionStore.FIND, challenges as in
    # CHARGE_BY_ID. The second part is the tokens before the present ones, of another key and still
    # good, which FIND gives to be judged (sessions/refresh.py).
    IN_SLOTS = """
        SELECT key_id, sum(sessions)::bigint AS sessions, sum(challenges)::bigint AS challenges,
               max(last_end_time) AS last_end_time
        FROM (
            SELECT s.key_id, count(*) AS sessions, 0 AS challenges,
                   max(s.expire_time) AS last_end_time
            FROM unnest($1::smallint[]) AS asked (slot)
            JOIN sessions s ON s.slot = asked.slot
            JOIN users u ON u.slot = asked.slot AND u.id = s.user_id
            JOIN installation i ON i.id = 1
            WHERE s.revoke_time IS NULL AND s.expire_time > now()
              AND s.last_seen_time + $2::interval > now()
              AND s.epoch >= u.auth_epoch AND u.state = 'active'
              AND s.installation_epoch >= i.epoch
            GROUP BY s.key_id
            UNION ALL
            SELECT s.previous_key_id, count(*), 0,
                   max(LEAST(s.expire_time, s.previous_end_time))
            FROM unnest($1::smallint[]) AS asked (slot)
            JOIN sessions s ON s.slot = asked.slot
            JOIN users u ON u.slot = asked.slot AND u.id = s.user_id
            JOIN installation i ON i.id = 1
            WHERE s.revoke_time IS NULL AND s.expire_time > now()
              AND s.last_seen_time + $2::interval > now()
              AND s.epoch >= u.auth_epoch AND u.state = 'active'
              AND s.installation_epoch >= i.epoch
              AND s.previous_key_id <> s.key_id
              AND (s.previous_end_time IS NULL OR s.previous_end_time > now())
            GROUP BY s.previous_key_id
            UNION ALL
            SELECT c.key_id, 0, count(*), max(c.expire_time)
            FROM unnest($1::smallint[]) AS asked (slot)
            JOIN challenges c ON c.slot = asked.slot
            WHERE c.consume_time IS NULL AND c.end_time IS NULL AND c.expire_time > now()
            GROUP BY c.key_id
        ) AS alive
        GROUP BY key_id
    """

    async def in_slots(self, slots: Sequence[int], *, idle_lifetime: timedelta) -> Sequence[KeyUse]:
        rows = await self._connection.fetch(self.IN_SLOTS, slots, idle_lifetime)
        return [KeyUse(**row) for row in rows]
