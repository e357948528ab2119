"""Secrets do not leave through anything that prints, formats, copies or logs them."""

import copy
import dataclasses
import logging
import pickle
import traceback
from uuid import UUID

import pytest

from watchword.crypto import CodeSource, KeyRing, MintedSession, PresentedCode, Secret

VALUE = "hunter2-4829133"
MARK = b"\xab\xcd" * 16
MARK_TEXTS = (repr(MARK)[2:-1], MARK.hex())


def test_text_forms_are_redacted() -> None:
    """Every way to text says `[redacted]`, at any width."""
    secret = Secret(VALUE)
    texts = [
        repr(secret),
        str(secret),
        format(secret),
        f"{secret}",
        f"{secret!r}",
        f"{secret!s}",
        f"{secret:>40}",
        "%s" % secret,  # noqa: UP031 - this way of formatting is tested too
        "%r" % (secret,),  # noqa: UP031 - this way of formatting is tested too
        ascii(secret),
    ]
    assert set(texts) == {"[redacted]"}
    assert repr([secret]) == "[[redacted]]"
    assert secret.reveal() == VALUE


def test_logs_are_redacted(caplog: pytest.LogCaptureFixture) -> None:
    """A secret in a log call, as argument or as extra, shows nothing."""
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("token %s %r", Secret(VALUE), {"a": Secret(VALUE)})
    assert VALUE not in caplog.text
    assert "token [redacted] {'a': [redacted]}" in caplog.text


def test_tracebacks_are_redacted() -> None:
    """A traceback that prints the values of variables and an exception with a secret show none."""

    def fail(secret: Secret) -> None:
        raise RuntimeError(secret)

    try:
        fail(Secret(VALUE))
    except RuntimeError as error:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert VALUE not in "".join(shown.format())
        assert "secret = [redacted]" in "".join(shown.format())
        assert VALUE not in str(error)


def test_dataclasses_are_redacted() -> None:
    """The records that carry secrets print none, nor what is derived from an address."""
    records = [
        PresentedCode(6, Secret(VALUE)),
        MintedSession(Secret(VALUE), UUID(int=1), 1, MARK),
        CodeSource(1, "login", UUID(int=1), MARK, MARK[:16]),
    ]
    for record in records:
        for text in (repr(record), str(record), f"{record}"):
            assert VALUE not in text
            assert all(mark not in text for mark in MARK_TEXTS)


def test_key_rings_are_redacted() -> None:
    """A key ring prints no key."""
    ring = KeyRing([(1, MARK)], MARK)
    for text in (repr(ring), str(ring), f"{ring}", repr(ring._ring)):
        assert text == "KeyRing(<redacted>)"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_secrets_are_not_pickled(protocol: int) -> None:
    """Neither a secret, nor a record that holds one, nor a key ring can be pickled."""
    records: list[object] = [Secret(VALUE), KeyRing([(1, MARK)], MARK)]
    records += [PresentedCode(6, Secret(VALUE)), {"a": Secret(VALUE)}]
    for record in records:
        with pytest.raises(TypeError):
            pickle.dumps(record, protocol)


def test_secrets_are_not_copied() -> None:
    """Copies, shallow and deep, and `dataclasses.asdict` are refused."""
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        copy.copy(Secret(VALUE))
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        dataclasses.asdict(PresentedCode(6, Secret(VALUE)))
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        Secret(VALUE).__getstate__()


def test_secrets_compare_by_value() -> None:
    """Equal values are equal, other types never, and there is no hash."""
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret(VALUE + "0")
    assert Secret("\ud800é") == Secret("\ud800é")
    assert Secret(VALUE) != VALUE
    with pytest.raises(TypeError, match="unhashable"):
        hash(Secret(VALUE))


def test_secrets_take_no_attributes() -> None:
    """A secret has no `__dict__` in which its value could be seen."""
    with pytest.raises(TypeError):
        vars(Secret(VALUE))
