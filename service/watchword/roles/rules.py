"""What the name of a role or a permission may be, and why somebody holds a role."""

from watchword.errors import ValueRejected

NAME_MAX = 64
REASON_MAX = 200
# Of one role.
PERMISSIONS_MAX = 256
_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._:-")


def name(text: str) -> str:
    """Returns the name of a role or permission as given: 1 to 64 of `a-z 0-9 . _ : -`."""
    if not 1 <= len(text) <= NAME_MAX or not _CHARACTERS.issuperset(text):
        raise ValueRejected(f"must be 1 to {NAME_MAX} of the characters `a-z 0-9 . _ : -`")
    return text


def reason(text: str) -> str | None:
    """Returns why a role is given, trimmed; None for nothing."""
    if len(text) > REASON_MAX or not text.isprintable():
        raise ValueRejected(f"must have at most {REASON_MAX} printable characters")
    return text.strip() or None
