"""What `restore-fence` ends, one slot after the other."""

from watchword.storage.cluster import confirm_cluster
from watchword.storage.pool import Connection


class FenceStore:
    """Implements watchword.login.ports.FenceStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # Sessions below it are dead, whoever's.
    RAISE_EPOCH = "UPDATE installation SET epoch = epoch + 1 WHERE id = 1"

    async def raise_epoch(self) -> None:
        await self._connection.execute(self.RAISE_EPOCH)

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
