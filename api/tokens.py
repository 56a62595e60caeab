"""JSON Web Tokens as credentials: signed by an identity provider, or with a shared key.

What a reader gets wrong: the algorithm comes from the settings, never from the token, and a shared
key takes HS algorithms only, a key set none of them: else a public key would serve as a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, cast

import jwt

from api.restriction import Restriction
from tracker.errors import ConfigurationError, NotAuthenticated
from tracker.store.keys import SCOPES, TYPES_MAX, Scope

SHARED_ALGORITHMS = ("HS256", "HS384", "HS512")
PUBLIC_ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
SHARED_KEY_BYTES = 32
"""Of a shared key at least: as long as the hash of HS256 (RFC 7518, section 3.2)."""
LEEWAY = 10.0
"""Seconds that clocks may differ."""
SUBJECT_MAX = 200
PREFIX = "flowtrail:"
"""Begins the entries of the scopes claim that are ours: `flowtrail:read`."""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """Which tokens are good.

    Attributes:
        audience: What `aud` must hold: a token for another service is not one for us.
        issuer: What `iss` must be; None: anything.
        algorithms: Accepted ones.
        scopes_claim: Its name, or a dotted path to it: a list, or a string with blanks between.
    """

    audience: str
    issuer: str | None
    algorithms: tuple[str, ...]
    scopes_claim: str = "scope"


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What a good token says.

    Attributes:
        subject: Its `sub`.
        expires_at: Its `exp`.
    """

    subject: str
    expires_at: datetime
    scopes: frozenset[Scope]
    restriction: Restriction


class Keys(Protocol):
    """Where the key is that signed a token."""

    async def key_for(self, key_id: str | None) -> Any:
        """The key of that id; without an id, the only one.

        Raises:
            NotAuthenticated: There is none.
            TransientError: That cannot be told now.
        """
        ...


class SharedKey:
    """One secret that the signer and we know.

    Raises:
        ConfigurationError: It is too short to be safe.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        if len(self._secret) < SHARED_KEY_BYTES:
            raise ConfigurationError(
                f"FLOWTRAIL_JWT_KEY must have at least {SHARED_KEY_BYTES} bytes; "
                "`openssl rand -base64 48` makes one"
            )

    async def key_for(self, key_id: str | None) -> Any:
        """The secret, whatever the token calls it."""
        return self._secret


class TokenVerifier:
    """Reads tokens, believing none that is not signed by a known key."""

    def __init__(self, rules: TokenRules, keys: Keys) -> None:
        self._rules = rules
        self._keys = keys

    async def verify(self, token: str) -> TokenFacts:
        """What a token says.

        Raises:
            NotAuthenticated: It is no token, wrongly signed, expired, for others, or says
                something that cannot be understood.
            TransientError: The keys cannot be fetched now.
        """
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise NotAuthenticated(
                "the credential is neither an API key (ft_…) nor a JSON Web Token"
            ) from error
        if header.get("alg") not in self._rules.algorithms:
            accepted = ", ".join(self._rules.algorithms)
            raise NotAuthenticated(f"the token's algorithm is none of: {accepted}")
        return self._facts(self._claims(token, await self._keys.key_for(header.get("kid"))))

    def _claims(self, token: str, key: Any) -> Mapping[str, Any]:
        rules = self._rules
        try:
            return jwt.decode(
                token,
                key,
                algorithms=list(rules.algorithms),
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            # ValueError and TypeError: a key of another kind than the algorithm wants.
            raise NotAuthenticated(f"this token is not accepted: {error}") from error

    def _facts(self, claims: Mapping[str, Any]) -> TokenFacts:
        subject = claims["sub"]
        if not 0 < len(subject) <= SUBJECT_MAX or not subject.isprintable():
            raise NotAuthenticated(
                f"expected the token's sub to be 1-{SUBJECT_MAX} printable characters"
            )
        named = {entry.removeprefix(PREFIX) for entry in _ours(self._entries(claims))}
        return TokenFacts(
            subject=subject,
            expires_at=datetime.fromtimestamp(claims["exp"], UTC),
            scopes=frozenset(scope for scope in SCOPES if scope in named),
            restriction=Restriction(
                ref_types=_types(claims, "flowtrail_ref_types"),
                workflow_types=_types(claims, "flowtrail_workflow_types"),
            ),
        )

    def _entries(self, claims: Mapping[str, Any]) -> list[Any]:
        found = _claim(claims, self._rules.scopes_claim)
        if isinstance(found, str):
            return list(found.split())
        return cast("list[Any]", found) if isinstance(found, list) else []


def _ours(entries: list[Any]) -> list[str]:
    return [entry for entry in entries if isinstance(entry, str) and entry.startswith(PREFIX)]


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name (which may hold dots, as a URL's does), else by the path."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = cast("dict[str, Any]", found).get(part) if isinstance(found, dict) else None
    return found


def _types(claims: Mapping[str, Any], name: str) -> frozenset[str] | None:
    """A claim that restricts. Misread it would open what it closes: hence an error, not None."""
    if name not in claims:
        return None
    listed = claims[name]
    if isinstance(listed, list):
        names = cast("list[Any]", listed)
        if 1 <= len(names) <= TYPES_MAX and all(isinstance(one, str) and one for one in names):
            return frozenset(names)
    raise NotAuthenticated(f"expected the token's {name} to be a list of 1-{TYPES_MAX} names")
