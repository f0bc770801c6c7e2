"""Secrets at rest: sealed, bound to their place, lost only with their key."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onward.errors import ConfigError
from onward.vault import KeyLost, Vault

# Generating is slow on a busy machine, and the first texts build a large table.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

OLD = "old-key-" + "0123456789" * 3
NEW = "new-key-" + "abcdefghij" * 3
PLACE = "connection:3:password"


@CALM
@given(text=st.text(), context=st.text(max_size=30))
def test_round_trip(text: str, context: str) -> None:
    """What was sealed for a context is opened for it, and no two seals are alike."""
    vault = Vault([NEW])
    token = vault.encrypt(text, context)

    assert token.startswith(f"k1:{vault.key_ids[0]}:")
    assert vault.decrypt(token, context) == text
    assert vault.encrypt(text, context) != token


@CALM
@given(context=st.text(max_size=30), other=st.text(max_size=30))
def test_wrong_context_or_key_is_refused(context: str, other: str) -> None:
    """Neither another context nor another key opens it."""
    token = Vault([NEW]).encrypt("s3cret", context)

    if other != context:
        with pytest.raises(KeyLost):
            Vault([NEW]).decrypt(token, other)
    with pytest.raises(KeyLost):
        Vault([OLD]).decrypt(token, context)


@CALM
@given(data=st.data())
def test_changed_token_is_refused(data: st.DataObject) -> None:
    """No token with another letter is opened."""
    token = Vault([NEW]).encrypt("s3cret", PLACE)
    at = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.characters())
    changed = token[:at] + letter + token[at + 1 :]
    if changed != token:
        with pytest.raises(KeyLost):
            Vault([NEW]).decrypt(changed, PLACE)


@pytest.mark.parametrize("token", ["", "s3cret", "k1:", "k1::", "k2:0:x", "k1:0:0:0"])
def test_what_is_no_token_is_refused(token: str) -> None:
    """Text that was never sealed is told apart, and not repeated."""
    with pytest.raises(KeyLost) as caught:
        Vault([NEW]).decrypt(token, PLACE)

    assert "s3cret" not in caught.value.message


def test_lost_key_says_what_to_do() -> None:
    """The message names the secret, the key it needs and the way out."""
    token = Vault([OLD]).encrypt("s3cret", PLACE)
    old, new = Vault([OLD]).key_ids[0], Vault([NEW]).key_ids[0]

    with pytest.raises(KeyLost) as caught:
        Vault([NEW]).decrypt(token, PLACE)

    assert caught.value.message == (
        f"the stored secret {PLACE} was sealed with key {old}, the keys here are:"
        f" {new}; give the old key as the last one in ONWARD_SECRET_KEY, or enter the"
        " secret again"
    )


def test_rotation() -> None:
    """The first key seals; a token of the second is rotated to it, once."""
    both = Vault.open({"ONWARD_SECRET_KEY": f"{NEW}, {OLD}"}, None)
    token = Vault([OLD]).encrypt("s3cret", PLACE)

    rotated = both.rotate(token, PLACE)

    assert both.key_ids == Vault([NEW]).key_ids + Vault([OLD]).key_ids
    assert Vault([NEW]).decrypt(rotated, PLACE) == "s3cret"
    assert both.rotate(rotated, PLACE) == rotated
    with pytest.raises(KeyLost):
        Vault([NEW]).rotate(token, PLACE)


def test_missing_key_matters_only_when_used(tmp_path: Path) -> None:
    """Without any key a vault opens; sealing then says how to get one."""
    vault = Vault.open({}, tmp_path / "onward.key")

    assert (vault.key_ids, vault.problem) == ((), "")
    with pytest.raises(ConfigError, match=r"there is no key; set ONWARD_SECRET_KEY"):
        vault.encrypt("s3cret", PLACE)

    assert Vault.create_key_file(tmp_path / "onward.key")
    again = Vault.open({}, tmp_path / "onward.key")
    assert again.decrypt(again.encrypt("s3cret", PLACE), PLACE) == "s3cret"


def test_key_file_is_private_and_never_replaced(tmp_path: Path) -> None:
    """It is made with mode 600, once; nothing else is left in the folder."""
    path = tmp_path / "onward.key"

    assert Vault.create_key_file(path)
    content = path.read_text()
    assert not Vault.create_key_file(path)

    assert path.read_text() == content
    assert len(content.strip()) == 44
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_key_file_without_folder(tmp_path: Path) -> None:
    """A folder that is not there is a sentence, not a trace."""
    with pytest.raises(ConfigError, match=r"onward\.key cannot be made: No such file"):
        Vault.create_key_file(tmp_path / "nowhere" / "onward.key")


def test_open_key_file_is_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A key file others can read is repaired, and that is said without the key."""
    path = tmp_path / "onward.key"
    path.write_text(f"# made by hand\n{NEW}\n\n{OLD}\n")
    path.chmod(0o644)

    with caplog.at_level(logging.WARNING):
        vault = Vault.open({}, path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "was open to other users (mode 644)" in caplog.text
    assert NEW not in caplog.text
    assert vault.key_ids == Vault([NEW, OLD]).key_ids


def test_environment_comes_first(tmp_path: Path) -> None:
    """Keys of the environment seal; the file's still open what it sealed before."""
    path = tmp_path / "onward.key"
    Vault.create_key_file(path)
    token = Vault.open({}, path).encrypt("s3cret", PLACE)

    vault = Vault.open({"ONWARD_SECRET_KEY": NEW}, path)

    assert vault.key_ids[0] == Vault([NEW]).key_ids[0]
    assert vault.decrypt(token, PLACE) == "s3cret"


@pytest.mark.parametrize(
    ("env", "content", "problem"),
    [
        ({"ONWARD_SECRET_KEY": f"{NEW},short"}, None,
         "a key in ONWARD_SECRET_KEY is shorter than 32 characters;"
         " `openssl rand -base64 32` makes a good one"),
        ({}, b"", "onward.key holds no key"),
        ({}, b"\xff\xfe", "onward.key cannot be read: it is not text"),
    ],
)  # fmt: skip
def test_unusable_keys(
    tmp_path: Path, env: dict[str, str], content: bytes | None, problem: str
) -> None:
    """A key that cannot be used is a problem at once, an error when sealing."""
    path = tmp_path / "onward.key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)

    vault = Vault.open(env, path)

    assert vault.problem == problem
    with pytest.raises(ConfigError) as caught:
        vault.encrypt("s3cret", PLACE)
    assert caught.value.message == f"secrets cannot be stored: {problem}"


def test_no_secret_in_repr() -> None:
    """A vault shows the ids of its keys and nothing else."""
    vault = Vault([NEW])

    assert repr(vault) == f"Vault(key_ids=['{vault.key_ids[0]}'])"
