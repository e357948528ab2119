"""What roles need from storage."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from watchword.roles.model import Grants, Role


class RoleStore(Protocol):
    """Roles, their permissions and who holds them."""

    async def grants_of(self, user_id: UUID) -> Grants:
        """Returns what the user holds at this moment; nothing for a user who is not there."""

    async def grants_at(self, user_id: UUID) -> tuple[Grants, datetime]:
        """Returns the same with the database's time of this moment."""

    async def create(self, name: str, *, permissions: Sequence[str]) -> bool:
        """Makes the role with its permissions; False when there is one of that name."""

    async def list_all(self) -> Sequence[Role]:
        """Returns every role with its permissions, both in the order of their names."""

    async def exists(self, name: str) -> bool:
        """Answers whether there is a role of that name."""

    async def assign(
        self,
        name: str,
        *,
        user_id: UUID,
        lifetime: timedelta | None = None,
        granted_by: str | None = None,
        reason: str | None = None,
    ) -> bool:
        """Gives the role to the user, for good or for a lifetime, which counts from now.

        False when the user holds it for good already and is to.
        """

    async def unassign(self, name: str, *, user_id: UUID) -> bool:
        """Takes the role from the user; False when the user does not hold it."""
