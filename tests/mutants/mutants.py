"""Bugs that other servers of this kind have had, as changes of Watchword's text, and who sees them.

Each piece of text stands exactly once in its file; keep it as short as that allows.
"""

from tests.mutants import addresses, codes, limits, sessions

MUTANTS = (*codes.MUTANTS, *limits.MUTANTS, *sessions.MUTANTS, *addresses.MUTANTS)
