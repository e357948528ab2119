"""The key ring and the vectors that the tests of `watchword.crypto` share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from watchword.crypto import KeyRing

VECTORS = Path(__file__).parents[2] / "vectors"

Vectors = dict[str, Any]


@pytest.fixture(scope="session")
def vectors() -> Callable[[str], Vectors]:
    def read(name: str) -> Vectors:
        document: Vectors = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
        return document

    return read


@pytest.fixture(scope="session")
def ring(vectors: Callable[[str], Vectors]) -> KeyRing:
    """The ring of the vectors: ids 7 (signs), 1 and 255."""
    source = vectors("token")["ring"]
    keys = [(key["id"], bytes.fromhex(key["key"])) for key in source["keys"]]
    return KeyRing(keys, bytes.fromhex(source["index_key"]))
