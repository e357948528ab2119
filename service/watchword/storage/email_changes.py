"""Changes of addresses, from the wish to the notice to the old address."""

from datetime import timedelta
from uuid import UUID

from watchword.crypto import slot_of
from watchword.storage.pool import Connection
from watchword.users.model import EmailChange


class EmailChangeStore:
    """Implements watchword.users.ports.EmailChangeStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    GIVE_UP = "DELETE FROM email_changes WHERE slot = $1 AND user_id = $2 AND old_email IS NULL"
    # $1 slot, $2 user id, $3 id, $4 new address, $5 lifetime
    INSERT = """
        INSERT INTO email_changes (slot, user_id, id, new_email, expire_time)
        VALUES ($1, $2, $3, $4, now() + $5::interval)
    """

    async def begin(self, change: EmailChange, *, lifetime: timedelta) -> None:
        slot = slot_of(change.user_id)
        await self._connection.execute(self.GIVE_UP, slot, change.user_id)
        await self._connection.execute(
            self.INSERT, slot, change.user_id, change.id, change.new_email, lifetime
        )

    FIND = """
        SELECT new_email
        FROM email_changes
        WHERE slot = $1 AND user_id = $2 AND id = $3
          AND old_email IS NULL AND expire_time > now()
    """

    async def find(self, user_id: UUID, change_id: UUID) -> EmailChange | None:
        new_email = await self._connection.fetchval(self.FIND, slot_of(user_id), user_id, change_id)
        return None if new_email is None else EmailChange(change_id, user_id, new_email)

    # $1 slot, $2 user id, $3 id, $4 old address, $5 how long it is kept
    FINISH = """
        UPDATE email_changes
        SET old_email = $4, expire_time = now() + $5::interval
        WHERE slot = $1 AND user_id = $2 AND id = $3
          AND old_email IS NULL AND expire_time > now()
        RETURNING id
    """

    async def finish(self, change: EmailChange, *, old_email: str, kept: timedelta) -> bool:
        finished = await self._connection.fetchval(
            self.FINISH, slot_of(change.user_id), change.user_id, change.id, old_email, kept
        )
        return finished is not None
