"""Device tokens: what was minted for a subject is accepted for it, and nothing else."""

import base64
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.crypto.test_crypto_tokens import ALPHABET, mutants
from watchword.crypto import DeviceTimes, KeyRing, Secret, is_device_token

FULL = os.environ.get("WATCHWORD_TEST_FULL") == "1"
INDEX_KEY = b"\x03" * 32
RING = KeyRing([(1, b"\x01" * 32)], INDEX_KEY)
ADA, EVE = b"\x07" * 32, b"\x08" * 32
TIMES = DeviceTimes(1_763_856_000_000_000, 1_771_632_000_123_456)
TOKEN = RING.mint_device_token(ADA, TIMES).reveal()


def accepted(token: str, subject_key: bytes = ADA) -> bool:
    return RING.check_device_token(Secret(token), subject_key) is not None


def test_a_minted_token_is_read_back() -> None:
    """48 characters that say their times to their subject, also after the ring has rotated."""
    assert len(TOKEN) == 48
    assert TOKEN.startswith("wwd_")
    assert is_device_token(Secret(TOKEN))
    assert RING.check_device_token(Secret(TOKEN), ADA) == TIMES
    rotated = KeyRing([(2, b"\x02" * 32)], INDEX_KEY)
    assert rotated.check_device_token(Secret(TOKEN), ADA) == TIMES


def test_no_token_is_accepted_elsewhere() -> None:
    """Neither for another subject, nor by another installation, nor as another kind of token."""
    other = KeyRing([(1, b"\x01" * 32)], b"\x04" * 32)
    assert other.check_device_token(Secret(TOKEN), ADA) is None
    assert not accepted(TOKEN, EVE)
    assert RING.parse_service_key(TOKEN) is None
    assert RING.parse_session_token(TOKEN) is None
    assert not accepted(RING.mint_service_key().reveal())
    assert not accepted(RING.mint_session(0).token.reveal())


def test_no_bit_may_be_flipped() -> None:
    """Each of the 264 bits of 100 tokens, in full of 1,000, is covered by the tag or the form."""
    for number in range(1_000 if FULL else 100):
        times = DeviceTimes(TIMES.since_us + number, TIMES.issued_us - number)
        raw = base64.urlsafe_b64decode(RING.mint_device_token(ADA, times).reveal()[4:])
        for bit in range(8 * len(raw)):
            flipped = bytearray(raw)
            flipped[bit // 8] ^= 1 << bit % 8
            assert not accepted("wwd_" + base64.urlsafe_b64encode(flipped).decode())


def test_no_mutant_is_accepted() -> None:
    """Every mutant of one bit, symbol, case, padding or length: of 2 tokens, in full of 40."""
    for number in range(40 if FULL else 2):
        token = RING.mint_device_token(ADA, DeviceTimes(TIMES.since_us, number)).reveal()
        assert not any(accepted(mutant) for mutant in dict.fromkeys(mutants(token)))


def test_no_invented_token_is_accepted() -> None:
    """The right form with random content: only the ring makes a tag."""
    source = random.Random(7)  # fixed, so that a failure repeats
    for _ in range(10_000):
        invented = "wwd_AQ" + "".join(source.choices(ALPHABET, k=42))
        assert is_device_token(Secret(invented))
        assert not accepted(invented)


@given(st.text(st.characters(exclude_categories=()), max_size=60))
def test_any_text_is_answered(text: str) -> None:
    """No text, lone surrogates included, does anything but be refused."""
    assert not accepted(text)
    assert not is_device_token(Secret(text))


def test_a_subject_of_another_size_is_a_program_s_mistake() -> None:
    """As everywhere in the core: ValueError, and nothing is compared."""
    for size in (0, 31, 33):
        with pytest.raises(ValueError, match="subject_key"):
            RING.check_device_token(Secret(TOKEN), bytes(size))
        with pytest.raises(ValueError, match="subject_key"):
            RING.mint_device_token(bytes(size), TIMES)
