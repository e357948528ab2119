"""What an operator reads of the audit."""

from collections.abc import Sequence
from uuid import UUID

from watchword.audit.model import StoredEvent
from watchword.login.ports import Database


async def list_events(
    database: Database, *, user_id: UUID | None, action: str | None, limit: int
) -> Sequence[StoredEvent]:
    """Returns events, the newest first: of everybody or of one user, of every action or of one."""
    if user_id is None:
        return await database.run_statement(
            lambda tx: tx.audit.list_all(action=action, limit=limit)
        )
    return await database.run_statement(
        lambda tx: tx.audit.list_of_user(user_id, action=action, limit=limit)
    )
