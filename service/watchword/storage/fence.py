"""What `restore-fence` ends, one slot after the other."""

from watchword.storage.cluster import confirm_cluster
from watchword.storage.pool import Connection


class FenceStore:
    """Implements watchword.login.ports.FenceStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # $1 slot. Sessions below the epoch are dead.
    RAISE_EPOCHS = """
        WITH raised AS (
            UPDATE users
            SET auth_epoch = auth_epoch + 1, version = version + 1
            WHERE slot = $1
            RETURNING id
        )
        SELECT count(*) FROM raised
    """

    async def raise_epochs(self, slot: int) -> int:
        raised: int = await self._connection.fetchval(self.RAISE_EPOCHS, slot)
        return raised

    # $1 slot
    END_CHALLENGES = """
        WITH ended AS (
            UPDATE challenges
            SET end_time = now()
            WHERE slot = $1
              AND consume_time IS NULL AND end_time IS NULL AND expire_time > now()
            RETURNING id
        )
        SELECT count(*) FROM ended
    """

    async def end_challenges(self, slot: int) -> int:
        ended: int = await self._connection.fetchval(self.END_CHALLENGES, slot)
        return ended

    async def confirm_cluster(self) -> bool:
        return await confirm_cluster(self._connection)
