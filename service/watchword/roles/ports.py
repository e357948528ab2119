"""What roles need from storage."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from watchword.roles.model import Assignment, Grants, Role


class RoleStore(Protocol):
    """Roles, their permissions and who holds them."""

    async def grants_of(self, user_id: UUID) -> Grants:
        """Returns what the user holds at this moment; nothing for a user who is not there."""

    async def grants_at(self, user_id: UUID) -> tuple[Grants, datetime]:
        """Returns the same with the database's time of this moment."""

    async def create(self, name: str, *, permissions: Sequence[str]) -> bool:
        """Makes the role with its permissions; False when there is one of that name."""

    async def replace_permissions(self, name: str, *, permissions: Sequence[str]) -> None:
        """Gives a role that is there these permissions and no others."""

    async def delete(self, name: str) -> bool:
        """Deletes the role; nobody is answered it any more, though assignments are left."""

    async def remove_orphans(self, name: str) -> int:
        """Removes up to 1,000 assignments of a role that is gone; how many there were."""

    async def get(self, name: str) -> Role | None:
        """Returns the role."""

    async def list_all(self, *, after: str, limit: int) -> Sequence[Role]:
        """Returns roles after that name, with their permissions, both in the order of names."""

    async def exists(self, name: str) -> bool:
        """Answers whether there is a role of that name."""

    async def assign(
        self,
        name: str,
        *,
        user_id: UUID,
        expire_time: datetime | None = None,
        granted_by: str | None = None,
        reason: str | None = None,
    ) -> bool:
        """Gives the role to the user, for good or until then.

        False when the user holds it in just this way already, and for an end that is over.
        """

    async def assignments_of(self, user_id: UUID) -> Sequence[Assignment]:
        """Returns what the user holds at this moment, in the order of the roles' names."""

    async def unassign(self, name: str, *, user_id: UUID) -> bool:
        """Takes the role from the user; False when the user does not hold it."""
