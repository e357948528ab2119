"""Which codes a server in this process compares."""

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

import pytest

from watchword.crypto import CodeSource, KeyRing, PresentedCode


class Comparisons:
    """Counts what the Rust core is asked to compare, per challenge, while it does its work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.per_challenge: Counter[UUID] = Counter()
        self.codes: set[str] = set()
        check = KeyRing.check_code

        def counted(
            ring: KeyRing, presented: PresentedCode, sources: Sequence[CodeSource]
        ) -> int | None:
            self.per_challenge.update(source.challenge_id for source in sources)
            if sources:
                self.codes.add(presented.code.reveal())
            return check(ring, presented, sources)

        monkeypatch.setattr(KeyRing, "check_code", counted)
