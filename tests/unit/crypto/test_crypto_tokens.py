"""Session tokens and service keys: what was minted is accepted, and nothing else."""

import os
import random
import string
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchword.crypto import KeyRing, slot_of, verifier_matches

ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
FULL = os.environ.get("WATCHWORD_TEST_FULL") == "1"
RING = KeyRing([(1, b"\x01" * 32), (2, b"\x02" * 32)], b"\x03" * 32)


def accepted(token: str) -> bool:
    return RING.parse_session_token(token) is not None or RING.parse_service_key(token) is not None


def mutants(token: str) -> Iterator[str]:
    """Gives every single-bit, single-symbol, case, padding and length mutant of a token."""
    for at, symbol in enumerate(token):
        head, tail = token[:at], token[at + 1 :]
        yield from (head + chr(ord(symbol) ^ 1 << bit) + tail for bit in range(8))
        yield from (head + other + tail for other in ALPHABET if other != symbol)
        yield from (head + other + token[at:] for other in "A=_ ")
        if symbol.swapcase() != symbol:
            yield head + symbol.swapcase() + tail
        yield head + tail
        yield head
        yield head + "=" * (len(token) - at)
    yield from (token + end for end in ("=", "==", "===", "A", "\n", " ", "\0", token))
    yield from (start + token for start in ("=", " ", "Bearer ", "ww_", "\ufeff"))
    yield from (token.upper(), token.lower(), token.swapcase(), token[::-1])


def enough(minimum: int) -> Iterator[str]:
    """Gives mutants of new tokens of both kinds, `minimum` or a few more, none twice a token."""
    count = 0
    while count < minimum:
        for token in (RING.mint_session(count % 4096).token, RING.mint_service_key()):
            for mutant in dict.fromkeys(mutants(token.reveal())):
                count += 1
                yield mutant


def test_no_mutant_is_accepted() -> None:
    """Of 20,000 mutants of tokens none is accepted; with WATCHWORD_TEST_FULL=1, of 1,000,000."""
    size = 1_000_000 if FULL else 20_000
    wrong = sum(accepted(mutant) for mutant in enough(size))
    assert wrong == 0


def test_no_invented_token_is_accepted() -> None:
    """Tokens of the right form with random content are refused: only the ring makes a tag."""
    source = random.Random(7)  # fixed, so that a failure repeats
    for _ in range(10_000):
        assert not accepted("ww_" + "".join(source.choices(ALPHABET, k=76)))
        assert not accepted("wwk_" + "".join(source.choices(ALPHABET, k=53)) + "A")


def test_minted_session_is_read_back() -> None:
    """A token says its session, its key and a verifier that matches what is stored."""
    for slot in (0, 1, 2048, 4095):
        minted = RING.mint_session(slot)
        token = minted.token.reveal()
        assert len(token) == 79
        assert minted.key_id == RING.signing_key_id == 1
        assert slot_of(minted.session_id) == slot
        presented = RING.parse_session_token(token)
        assert presented is not None
        assert (presented.session_id, presented.key_id) == (minted.session_id, 1)
        assert verifier_matches(presented.verifier, minted.verifier)
        assert RING.parse_service_key(token) is None


def test_minted_service_key_is_read_back() -> None:
    """A service key says the digest of its secret; each new one is another."""
    token, other = RING.mint_service_key().reveal(), RING.mint_service_key().reveal()
    assert len(token) == 58
    digest = RING.parse_service_key(token)
    assert digest is not None
    assert len(digest) == 32
    assert digest == RING.parse_service_key(token) != RING.parse_service_key(other)
    assert RING.parse_session_token(token) is None


def test_rotation_keeps_tokens() -> None:
    """A token outlives its key's place in the ring, not the key, nor another key under its id."""
    token = RING.mint_session(9).token.reveal()
    index = b"\x03" * 32
    rotated = KeyRing([(2, b"\x02" * 32), (1, b"\x01" * 32)], index)
    assert rotated.parse_session_token(token) == RING.parse_session_token(token)
    assert KeyRing([(2, b"\x02" * 32)], index).parse_session_token(token) is None
    assert KeyRing([(1, b"\x02" * 32)], index).parse_session_token(token) is None


def test_verifiers_of_other_lengths_do_not_match() -> None:
    """A shorter, longer or empty verifier matches nothing but itself."""
    verifier = RING.mint_session(0).verifier
    assert verifier_matches(verifier, bytes(verifier))
    for other in (b"", verifier[:31], verifier + b"\0", bytes(32)):
        assert not verifier_matches(verifier, other)


@given(st.text(st.characters(exclude_categories=()), max_size=120))
def test_any_text_is_answered(text: str) -> None:
    """No text, lone surrogates included, does anything but be refused."""
    assert not accepted(text)


def test_surrogates_inside_a_token_are_refused() -> None:
    """A lone surrogate is refused like any other wrong character, without an error."""
    token = RING.mint_session(0).token.reveal()
    for wrong in ("\ud800", "\udfff", "\udcff"):
        assert not accepted(token[:10] + wrong + token[11:])
        assert not accepted(token[:10] + wrong + token[13:])


@pytest.mark.parametrize("token", [None, b"ww_", 1])
def test_other_types_are_type_errors(token: object) -> None:
    """Bytes and None are a program's mistake, not a wrong token."""
    with pytest.raises(TypeError):
        RING.parse_session_token(token)  # type: ignore[arg-type]  # the mistake that is tested
