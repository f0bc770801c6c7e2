"""Secrets at rest: sealed with a key that is not in the database."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from onward.errors import ConfigError

_log = logging.getLogger(__name__)

_FORMAT = "k1"
_NONCE_BYTES = 12
_LEAST_CHARACTERS = 32
_HOW = "set ONWARD_SECRET_KEY, or let `onward init` make onward.key"


class KeyLost(ConfigError):
    """A stored secret cannot be read with the keys there are; enter it again."""


class Vault:
    """Seals and opens texts; the first of its keys seals.

    A sealed text is `k1:<key id>:<base64url of nonce and AES-256-GCM output>`. It is
    bound to its context, as `connection:3:password`, so that nobody with write access
    to the database can move one secret to another place.

    A missing or unusable key is no error until a secret is sealed or opened: whoever
    takes all secrets from the environment needs none.

    Args:
        keys: texts of at least 32 characters.
        problem: why there are fewer keys than there should be; "" when all is well.
    """

    def __init__(self, keys: Sequence[str] = (), problem: str = "") -> None:
        self._keys = {_key_id(key): AESGCM(key) for key in map(_derive, keys)}
        self.problem = problem

    @classmethod
    def open(cls, env: Mapping[str, str], key_file: Path | None) -> Vault:
        """Collect the keys: those of `ONWARD_SECRET_KEY`, then those of the file.

        Args:
            env: the variable holds one key or several, separated by commas.
            key_file: one key a line, lines with `#` are remarks; need not exist.
        """
        texts = [("ONWARD_SECRET_KEY", key) for key in _listed(env)]
        problem = ""
        if key_file is not None:
            try:
                lines = _read_private(key_file).splitlines()
                texts += [(key_file.name, key) for key in _lines(lines)]
                if not texts:
                    problem = f"{key_file.name} holds no key"
            except FileNotFoundError:
                pass
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or "it is not text"
                if not texts:
                    problem = f"{key_file.name} cannot be read: {why}"
        for source, key in texts:
            if len(key) < _LEAST_CHARACTERS:
                problem = (
                    f"a key in {source} is shorter than {_LEAST_CHARACTERS} characters;"
                    " `openssl rand -base64 32` makes a good one"
                )
        good = [key for _, key in texts if len(key) >= _LEAST_CHARACTERS]
        return cls(good, problem)

    @staticmethod
    def create_key_file(path: Path) -> bool:
        """Make a file with a new key, readable by its owner only.

        It appears under its name complete or not at all.

        Returns:
            False when there was one already; that one is never changed.

        Raises:
            ConfigError: the folder cannot be written to.
        """
        try:
            return _create(path)
        except OSError as error:
            raise ConfigError(f"{path} cannot be made: {error.strerror}") from error

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of the keys, the sealing one first; they give nothing away."""
        return tuple(self._keys)

    def encrypt(self, text: str, context: str) -> str:
        """Seal a text for one context.

        Raises:
            ConfigError: there is no key, or a key that cannot be used.
        """
        # With one bad key among good ones it is not known which was meant to seal.
        if self.problem or not self._keys:
            why = self.problem or f"there is no key; {_HOW}"
            raise ConfigError(f"secrets cannot be stored: {why}")
        key_id, cipher = next(iter(self._keys.items()))
        # Random 96-bit nonces are safe for 2**32 secrets under one key.
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + cipher.encrypt(nonce, text.encode(), _bound(context))
        return f"{_FORMAT}:{key_id}:{base64.urlsafe_b64encode(sealed).decode()}"

    def decrypt(self, token: str, context: str) -> str:
        """Open what `encrypt` sealed for the same context.

        Raises:
            KeyLost: the key is not here, or this is not what was sealed.
        """
        key_id = _key_id_of(token)
        cipher = self._keys.get(key_id)
        if cipher is None:
            keys = ", ".join(self._keys) or "none"
            also = f" ({self.problem})" if self.problem else ""
            raise KeyLost(
                f"the stored secret {context} was sealed with key {key_id or '?'}, the"
                f" keys here are: {keys}{also}; give the old key as the last one in"
                " ONWARD_SECRET_KEY, or enter the secret again"
            )
        try:
            sealed = _decode(token.rpartition(":")[2])
            nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            return cipher.decrypt(nonce, rest, _bound(context)).decode()
        except (InvalidTag, ValueError):
            # No `from`: what was half decoded stays out of every trace.
            raise KeyLost(
                f"the stored secret {context} was changed or belongs somewhere else;"
                " enter it again"
            ) from None

    def rotate(self, token: str, context: str) -> str:
        """Return the token sealed with the first key; the same one if it is already.

        Raises:
            KeyLost: it cannot be opened, so it must be left as it is.
        """
        text = self.decrypt(token, context)
        if _key_id_of(token) == next(iter(self._keys)):
            return token
        return self.encrypt(text, context)

    def __repr__(self) -> str:
        return f"Vault(key_ids={list(self._keys)})"


def _listed(env: Mapping[str, str]) -> list[str]:
    keys = env.get("ONWARD_SECRET_KEY", "").split(",")
    return [key.strip() for key in keys if key.strip()]


def _lines(lines: Sequence[str]) -> list[str]:
    return [s for line in lines if (s := line.strip()) and not s.startswith("#")]


def _derive(text: str) -> bytes:
    """Return the 256-bit key a text stands for, whichever way it was written."""
    return HKDF(SHA256(), 32, salt=None, info=b"onward vault k1").derive(text.encode())


def _key_id(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:8]


def _key_id_of(token: str) -> str:
    parts = token.split(":")
    return parts[1] if len(parts) == 3 and parts[0] == _FORMAT else ""


def _decode(text: str) -> bytes:
    raw = base64.urlsafe_b64decode(text)
    # Python reads several spellings as the same bytes; only ours is a token.
    if base64.urlsafe_b64encode(raw).decode() != text:
        raise ValueError
    return raw


def _bound(context: str) -> bytes:
    return f"onward {_FORMAT} {context}".encode()


def _create(path: Path) -> bool:
    line = base64.urlsafe_b64encode(secrets.token_bytes(32)) + b"\n"
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    _write_new(draft, line)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError:
        # Some file systems have no hard links. Killed between the two steps
        # of this way, an empty file is left, which `open` reports.
        try:
            _write_new(path, line)
        except FileExistsError:
            return False
    finally:
        draft.unlink()
    return True


def _write_new(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with open(os.open(path, flags, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read_private(path: Path) -> str:
    """Return a file's text; take it away from other users where that is possible."""
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if os.name == "posix" and mode & 0o077:
            try:
                os.fchmod(file.fileno(), 0o600)
            except OSError:
                # Mounted secrets are often read-only and owned by somebody else.
                _log.warning("%s is open to other users (mode %o)", path.name, mode)
            else:
                _log.warning(
                    "%s was open to other users (mode %o); it is 600 now,"
                    " change the key if they are not to be trusted",
                    path.name,
                    mode,
                )
        return file.read().decode("utf-8-sig")
