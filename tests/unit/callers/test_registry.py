"""Service keys: how they are written, and what a credential is worth."""

import pytest

from watchword.callers.model import Caller, Scope, StoredCaller
from watchword.callers.registry import (
    STORED_GOOD_NS,
    CallerRegistry,
    parse_caller_keys,
    parse_scopes,
)
from watchword.clock import boottime_ns
from watchword.crypto import KeyRing, random_key
from watchword.errors import (
    CallerCredentialInvalid,
    CallerCredentialMissing,
    CallerScopeMissing,
    StorageUnavailable,
    ValueRejected,
)

KEYS = KeyRing([(1, random_key())], random_key())
KEY = KEYS.mint_service_key().reveal()
OTHER = KEYS.mint_service_key().reveal()
CANARY = "wwk_CANARYCANARYCANARY"


def registry(text: str) -> CallerRegistry:
    """A registry of what WATCHWORD_CALLERS__KEYS says."""
    known = CallerRegistry(KEYS, parse_caller_keys(text))
    known.replace_stored([], sent_ns=boottime_ns())
    return known


def test_entries_are_read() -> None:
    """Names, scopes and keys; spaces and a comma at the end do not matter."""
    first, second = parse_caller_keys(f" gateway:login+validate:{KEY} , audit-1:watch:{OTHER},")
    assert (first.name, first.scopes) == ("gateway", {Scope.LOGIN, Scope.VALIDATE})
    assert (second.name, second.scopes) == ("audit-1", {Scope.WATCH})
    assert first.key.reveal() == KEY


def test_no_entry_is_no_caller() -> None:
    """Nobody may call then, and that is no error."""
    assert parse_caller_keys("") == ()
    with pytest.raises(CallerCredentialInvalid):
        registry("").authenticate([f"Bearer {KEY}"], scopes=[Scope.LOGIN])


@pytest.mark.parametrize(
    "entry",
    [
        CANARY,
        f"name:{CANARY}",
        f"name:login:{CANARY}:more",
        f":login:{CANARY}",
        f"cli:login:{CANARY}",
        f"unknown:login:{CANARY}",
        f"Name:login:{CANARY}",
        f"na me:login:{CANARY}",
        f"{'n' * 65}:login:{CANARY}",
        f"name::{CANARY}",
        f"name:root:{CANARY}",
        f"name:login+:{CANARY}",
        f"name:LOGIN:{CANARY}",
        f"name:login,validate:{CANARY}",
        f"{CANARY}:login:name",
        f"name:{CANARY}:login",
    ],
)
def test_a_wrong_entry_is_named_by_its_number_never_by_its_key(entry: str) -> None:
    """The message ends up in logs: it says which entry, and nothing of it (threats row 24)."""
    with pytest.raises(ValueRejected, match="entry 2") as caught:
        parse_caller_keys(f"good:login:{KEY},{entry}")
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [CANARY, "", KeyRing([(1, random_key())], random_key()).mint_service_key().reveal()],
    ids=["canary", "empty", "another ring's"],
)
def test_a_key_of_another_installation_is_refused_at_start(key: str) -> None:
    """It could never work: better said at the start than at the first call."""
    with pytest.raises(ValueRejected, match="entry 1 .* did not make") as caught:
        registry(f"name:login:{key}")
    assert key == "" or key not in str(caught.value)


def test_a_key_stands_once() -> None:
    """The same key with other scopes would be decided by order; a name may have several keys."""
    with pytest.raises(ValueRejected, match="repeats") as caught:
        registry(f"a:login:{KEY},b:validate:{KEY}")
    assert KEY not in str(caught.value)
    both = registry(f"a:login:{KEY},a:validate:{OTHER}")
    assert both.authenticate([f"Bearer {OTHER}"], scopes=[Scope.VALIDATE]).name == "a"


def test_the_scheme_has_no_case() -> None:
    """RFC 9110, 11.1."""
    for scheme in ("Bearer", "bearer", "BEARER"):
        caller = registry(f"a:login:{KEY}").authenticate([f"{scheme} {KEY}"], scopes=[Scope.LOGIN])
        assert (caller.name, caller.scopes) == ("a", {Scope.LOGIN})


def test_nothing_is_missing_and_anything_else_is_invalid() -> None:
    """No value at all says that the caller forgot it; every other failure looks the same."""
    known = registry(f"a:login:{KEY}")
    with pytest.raises(CallerCredentialMissing):
        known.authenticate([], scopes=[Scope.LOGIN])
    for values in (
        [KEY],
        ["Bearer"],
        [f"Bearer {OTHER}"],
        [f"Bearer {KEY} "],
        [f"Bearer\t{KEY}"],
        [f"Bearer {KEY}".encode()],
        [f"Bearer {KEY}", f"Bearer {KEY}"],
        ["Bearer é"],
    ):
        with pytest.raises(CallerCredentialInvalid):
            known.authenticate(values, scopes=[Scope.LOGIN])


@pytest.mark.parametrize("held", Scope)
@pytest.mark.parametrize("needed", Scope)
def test_a_scope_is_not_another(held: Scope, needed: Scope) -> None:
    """No scope includes another, `admin` neither."""
    known = registry(f"a:{held}:{KEY}")
    if held is needed:
        assert known.authenticate([f"Bearer {KEY}"], scopes=[needed])
        return
    with pytest.raises(CallerScopeMissing) as caught:
        known.authenticate([f"Bearer {KEY}"], scopes=[needed])
    assert (caught.value.scope, caught.value.caller) == (needed, "a")


def stored(*scopes: Scope, name: str = "b") -> list[StoredCaller]:
    """The stored key OTHER."""
    digest = KEYS.parse_service_key(OTHER)
    assert digest is not None
    return [StoredCaller(digest, Caller(name, frozenset(scopes)))]


def test_one_of_several_scopes_is_enough() -> None:
    """A missing one is named by the first of them."""
    known = registry(f"a:admin:{KEY},b:login:{OTHER}")
    wanted = (Scope.USERS, Scope.ADMIN)
    assert known.authenticate([f"Bearer {KEY}"], scopes=wanted).name == "a"
    with pytest.raises(CallerScopeMissing) as caught:
        known.authenticate([f"Bearer {OTHER}"], scopes=wanted)
    assert caught.value.scope is Scope.USERS


def test_a_stored_key_is_good_while_its_reading_is() -> None:
    """As long as a second; then nobody knows, which is no reason to call it invalid. A key of the
    configuration needs no reading.

    Seen to fail with the age of the reading not looked at.
    """
    known = registry(f"a:login:{KEY}")
    now = boottime_ns()
    known.replace_stored(stored(Scope.LOGIN), sent_ns=now)
    assert known.authenticate([f"Bearer {OTHER}"], scopes=[Scope.LOGIN]).name == "b"
    digest = KEYS.parse_service_key(OTHER)
    assert (known.take_used(), known.take_used()) == ({digest}, set())
    known.replace_stored(stored(Scope.LOGIN), sent_ns=now - STORED_GOOD_NS - 1)
    for key in (OTHER, KEYS.mint_service_key().reveal()):
        with pytest.raises(StorageUnavailable):
            known.authenticate([f"Bearer {key}"], scopes=[Scope.LOGIN])
    assert known.authenticate([f"Bearer {KEY}"], scopes=[Scope.LOGIN]).name == "a"
    known.replace_stored([], sent_ns=boottime_ns())
    with pytest.raises(CallerCredentialInvalid):
        known.authenticate([f"Bearer {OTHER}"], scopes=[Scope.LOGIN])


def test_nothing_is_known_before_the_first_reading() -> None:
    """A server that has just started does not call a key invalid that may be stored; what was not
    minted here is.
    """
    fresh = CallerRegistry(KEYS, ())
    with pytest.raises(StorageUnavailable):
        fresh.authenticate([f"Bearer {OTHER}"], scopes=[Scope.LOGIN])
    with pytest.raises(CallerCredentialInvalid):
        fresh.authenticate(["Bearer wwk_invented"], scopes=[Scope.LOGIN])


def test_scopes_are_read_as_a_set() -> None:
    """Order and repetition do not matter; an unknown one names those that there are."""
    assert parse_scopes("validate+login+login") == {Scope.LOGIN, Scope.VALIDATE}
    with pytest.raises(ValueRejected, match="login, validate, watch, users, admin"):
        parse_scopes("everything")


def test_entries_do_not_print_their_keys() -> None:
    """A repr in a traceback shows no key."""
    assert KEY not in repr(parse_caller_keys(f"a:login:{KEY}"))
