"""What is kept of people: a keyed hash of who searched, and no query that looks like their address or number."""

import hashlib
import hmac
import os
import re
from collections.abc import Sequence

from embft.errors import ConfigError

CLIENT_KEY = "EMBFT_CLIENT_KEY"

_MIN_KEY_CHARACTERS = 16
_HASH_BYTES = 8
_HIDDEN = b'"<hidden>"'

# Bounded as RFC 5321 has it: else a long word is scanned once for each of its characters.
_EMAIL = re.compile(r"[^\s@<>,;:\"']{1,64}@[^\s@<>,;:\"']{1,255}\.[a-z]{2,}")
# An international number, or groups as people write them. A bare run of digits is an item number more often.
_PHONE = re.compile(
    r"(?<![\w+])(?:\+\d[\d ()./-]{6,18}\d|\(\d{3}\) ?\d{3}[ .-]?\d{4}|\d{3}[.-]\d{3}[.-]\d{4}"
    r"|0\d{2,4}[ /-]\d{2,4}[ -]?\d{2,5}(?:[ -]?\d{1,4})?)(?!\w)"
)
_CARD = re.compile(r"(?<!\d)[3-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{2,4}(?:[ -]?\d{1,3})?(?!\d)")
_CARD_DIGITS = range(14, 20)
_EMAIL_BYTES = re.compile(rb"[^\s@<>,;:\"'\\]{1,64}@[^\s@<>,;:\"'\\]{1,255}\.[A-Za-z]{2,}")


class ClientHash:
    """Replaces client ids by a keyed hash: the same client gets the same name, and the name leads back to nobody.

    Without the key a hash could be undone by trying all customer numbers.

    Args:
        key: The secret; None where it is not set.
    """

    def __init__(self, key: str | None) -> None:
        self._key = None if key is None else hashlib.sha256(key.encode()).digest()

    @classmethod
    def from_environment(cls) -> "ClientHash":
        """Take the key from $EMBFT_CLIENT_KEY.

        Returns:
            The hash; it complains about a missing key only when it meets a client.

        Raises:
            ConfigError: The key is too short to be a secret.
        """
        key = os.environ.get(CLIENT_KEY) or None
        if key is not None and len(key) < _MIN_KEY_CHARACTERS:
            raise ConfigError(
                f"{CLIENT_KEY} has {len(key)} characters; it must be a secret of {_MIN_KEY_CHARACTERS} or more, "
                "such as `openssl rand -hex 32` gives"
            )
        return cls(key)

    @property
    def fingerprint(self) -> str | None:
        """Which key it is, without telling it: sessions hashed with another key must not be mixed with these."""
        return None if self._key is None else hmac.digest(self._key, b"fingerprint", "sha256").hex()[:16]

    def of(self, clients: Sequence[str]) -> list[str]:
        """Hash ids.

        Args:
            clients: As the log has them.

        Returns:
            16 hex digits for each.

        Raises:
            ConfigError: There are clients, and there is no key.
        """
        if not clients:
            return []
        if self._key is None:
            raise ConfigError(
                "the log tells who searched, which is kept as a keyed hash alone, and there is no key: set "
                f"{CLIENT_KEY} to a secret that stays the same (`openssl rand -hex 32` makes one), or set "
                "logs.fields.client to null in the config"
            )
        key, blake2b = self._key, hashlib.blake2b
        return [blake2b(it.encode(), digest_size=_HASH_BYTES, key=key).hexdigest() for it in clients]


def private_parts(query: str) -> str:
    """Hide what looks like an e-mail address, or a phone or card number.

    Args:
        query: Normalised.

    Returns:
        The query with each of them replaced by a word in angle brackets; equal to the query where there is none.
    """
    if "@" in query:
        query = _EMAIL.sub("<email>", query)
    if sum(map(str.isdigit, query)) >= 7:
        query = _CARD.sub(lambda found: "<card>" if _is_card(found[0]) else found[0], query)
        query = _PHONE.sub("<phone>", query)
    return query


def _is_card(text: str) -> bool:
    """Whether the digits pass the check of Luhn (ISO/IEC 7812), which nine numbers of ten do not by chance."""
    digits = [int(it) for it in text if it.isdigit()]
    doubled = [sum(divmod(2 * it, 10)) for it in digits[-2::-2]]
    return len(digits) in _CARD_DIGITS and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


class RawLines:
    """Hides in a line's bytes what must not be kept of people, for a line that goes to quarantine.

    Args:
        paths: Dotted paths of the fields that tell who searched: client, IP address, user agent.
    """

    def __init__(self, paths: Sequence[str | None]) -> None:
        split = [path.split(".") for path in paths if path]
        # A value may break off with the line. Where it is a list or an object that nests, the rest of the line goes.
        text = rb'"(?:[^"\\]|\\.)*"'
        scalar = rb"(?:" + text + rb"?|[-+.\w]+)"
        value = rb"(?:" + scalar + rb"|[\[{](?:" + text + rb'|[^"\[\]{}])*[\]}]|(?s:[\[{].*))'
        self._patterns = [
            re.compile(
                rb'("(?:' + b"|".join(re.escape(it.encode()) for it in sorted(names)) + rb')"\s*:\s*)' + what, re.I
            )
            for names, what in (
                ({keys[-1] for keys in split}, value),
                # Where a line has a text in place of the object, it may be who searched as well.
                ({key for keys in split for key in keys[:-1]}, scalar),
            )
            if names
        ]

    def hidden(self, raw: bytes) -> bytes:
        """Give the bytes as they may be kept.

        Args:
            raw: The line, whole or broken.

        Returns:
            The same, with client, IP address, user agent and e-mail addresses replaced.
        """
        for pattern in self._patterns:
            raw = pattern.sub(rb"\1" + _HIDDEN, raw)
        return _EMAIL_BYTES.sub(b"<email>", raw) if b"@" in raw else raw
