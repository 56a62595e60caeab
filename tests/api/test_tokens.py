"""JSON Web Tokens: what is accepted, and above all what is not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm
from jwt.utils import base64url_encode

from api.auth import Authenticator
from api.key_sets import FRESH_SECONDS, REFETCH_SECONDS, KeySet
from api.main import create_app
from api.settings import load_settings
from api.tokens import SharedKey, TokenRules, TokenVerifier
from tests.api.conftest import api_settings, served
from tracker.errors import ConfigurationError, NotAuthenticated, TransientError
from tracker.store import keys
from tracker.store.database import Database, DatabaseOptions

SECRET = "s" * 32
SHARED = TokenRules(audience="flowtrail", issuer="https://issuer", algorithms=("HS256",))
PUBLIC = TokenRules(audience="flowtrail", issuer=None, algorithms=("RS256",))
PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def claims(**changed: Any) -> dict[str, Any]:
    given = {
        "sub": "ada",
        "aud": "flowtrail",
        "iss": "https://issuer",
        "exp": time.time() + 600,
        "scope": "openid flowtrail:read flowtrail:start",
        **changed,
    }
    return {name: value for name, value in given.items() if value is not None}


def signed(**changed: Any) -> str:
    return jwt.encode(claims(**changed), SECRET, "HS256")


def verifier(rules: TokenRules = SHARED) -> TokenVerifier:
    return TokenVerifier(rules, SharedKey(SECRET))


async def test_a_good_token_says_who_and_what() -> None:
    facts = await verifier().verify(signed(flowtrail_ref_types=["order"]))
    assert (facts.subject, facts.scopes) == ("ada", {"read", "start"})
    assert facts.restriction.ref_types == {"order"}
    assert facts.restriction.workflow_types is None


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, "exp"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": "a\n"}, "sub"),
        ({"sub": "a" * 201}, "sub"),
        ({"sub": 5}, "Subject"),
        ({"aud": "another"}, "Audience"),
        ({"aud": None}, "aud"),
        ({"iss": "https://evil"}, "issuer"),
        ({"nbf": 4_000_000_000}, "not yet valid"),
        ({"flowtrail_ref_types": []}, "flowtrail_ref_types"),
        ({"flowtrail_ref_types": "order"}, "flowtrail_ref_types"),
        ({"flowtrail_workflow_types": [1]}, "flowtrail_workflow_types"),
        ({"flowtrail_workflow_types": ["w"] * 21}, "flowtrail_workflow_types"),
    ],
    ids=str,
)
async def test_what_a_token_must_say(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(NotAuthenticated, match=why):
        await verifier().verify(signed(**changed))


def _unsigned() -> str:
    return jwt.encode(claims(), "", "none")


def _by_another_key() -> str:
    return jwt.encode(claims(), "x" * 32, "HS256")


def _by_another_algorithm() -> str:
    return jwt.encode(claims(), SECRET * 2, "HS512")


@pytest.mark.parametrize(
    "token", [_unsigned, _by_another_key, _by_another_algorithm, lambda: "a.b.c", lambda: "é"]
)
async def test_what_is_not_signed_as_it_must_be(token: Callable[[], str]) -> None:
    with pytest.raises(NotAuthenticated):
        await verifier().verify(token())


async def test_a_public_key_is_no_shared_secret() -> None:
    """The oldest attack on tokens: HS256 with the text of the key that everybody knows."""
    public = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = base64url_encode(json.dumps({"alg": "HS256", "kid": "a"}).encode())
    body = header + b"." + base64url_encode(json.dumps(claims()).encode())
    mac = jwt.get_algorithm_by_name("HS256").sign(body, public)
    forged = (body + b"." + base64url_encode(mac)).decode()
    with pytest.raises(NotAuthenticated, match="algorithm"):
        await TokenVerifier(PUBLIC, Issuer().key_set()).verify(forged)


@pytest.mark.parametrize(
    ("claim", "given"),
    [
        ("roles", {"roles": ["flowtrail:admin", "x", 3]}),
        ("realm_access.roles", {"realm_access": {"roles": ["flowtrail:admin"]}}),
        ("https://a.example/roles", {"https://a.example/roles": "flowtrail:admin other"}),
    ],
)
async def test_scopes_are_where_the_issuer_puts_them(claim: str, given: dict[str, Any]) -> None:
    rules = TokenRules("flowtrail", None, ("HS256",), claim)
    assert (await verifier(rules).verify(signed(**given))).scopes == {"admin"}
    assert (await verifier(rules).verify(signed())).scopes == set()


# Key sets


class Issuer:
    """An identity provider without a network."""

    def __init__(self) -> None:
        self.keys = {"a": PRIVATE}
        self.asked = 0
        self.away = False
        self.now = 0.0

    def key_set(self) -> KeySet:
        transport = httpx.MockTransport(self._answer)
        return KeySet("https://issuer/jwks", transport=transport, clock=lambda: self.now)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.away:
            return httpx.Response(500)
        described = [
            json.loads(RSAAlgorithm.to_jwk(key.public_key())) | {"kid": key_id}
            for key_id, key in self.keys.items()
        ]
        return httpx.Response(200, json={"keys": described})


def by_key(key: Any, key_id: str | None) -> str:
    return jwt.encode(claims(), key, "RS256", headers={"kid": key_id} if key_id else None)


async def test_keys_are_fetched_once_and_again_when_they_change() -> None:
    issuer = Issuer()
    tokens = TokenVerifier(PUBLIC, issuer.key_set())
    for token in (by_key(PRIVATE, "a"), by_key(PRIVATE, "a"), by_key(PRIVATE, None)):
        assert (await tokens.verify(token)).subject == "ada"
    assert issuer.asked == 1
    with pytest.raises(NotAuthenticated):
        await tokens.verify(by_key(OTHER, "a"))

    issuer.keys = {"b": OTHER}
    for _ in range(5):
        with pytest.raises(NotAuthenticated, match="does not publish"):
            await tokens.verify(by_key(OTHER, "b"))
    assert issuer.asked == 1
    issuer.now = REFETCH_SECONDS
    assert (await tokens.verify(by_key(OTHER, "b"))).subject == "ada"
    with pytest.raises(NotAuthenticated):
        await tokens.verify(by_key(PRIVATE, "a"))


async def test_known_keys_outlive_their_issuer() -> None:
    issuer = Issuer()
    tokens = TokenVerifier(PUBLIC, issuer.key_set())
    issuer.away = True
    with pytest.raises(TransientError):
        await tokens.verify(by_key(PRIVATE, "a"))
    issuer.away, issuer.now = False, REFETCH_SECONDS
    await tokens.verify(by_key(PRIVATE, "a"))
    issuer.away, issuer.now = True, 10 * FRESH_SECONDS
    assert (await tokens.verify(by_key(PRIVATE, "a"))).subject == "ada"


# In the API


async def test_tokens_and_keys_open_the_same_api(database: str) -> None:
    settings = api_settings(
        database, auth="on", jwt_key=SECRET, jwt_audience="flowtrail", jwt_rate=2
    )
    async with (
        served(create_app(settings)) as client,
        Database(DatabaseOptions(database)) as pool,
    ):
        _, secret = await keys.create(pool, "ci", ["read"])
        for headers in (
            {"X-API-Key": secret},
            {"X-API-Key": signed()},
            {"Authorization": f"Bearer {signed()}"},
        ):
            assert (await client.get("/v1/runs", headers=headers)).status_code == 200
        bearer = {"Authorization": f"Bearer {signed()}"}
        assert (await client.get("/v1/runs", headers=bearer)).status_code == 429
        eve = {"Authorization": f"Bearer {signed(sub='eve', scope='flowtrail:control')}"}
        refused = await client.get("/v1/runs", headers=eve)
        assert refused.status_code == 403
        assert "jwt:eve" in refused.json()["message"]
        wrong = await client.get("/v1/runs", headers={"Authorization": "Bearer nonsense"})
        assert wrong.status_code == 401
        authenticator = Authenticator(pool, enabled=True, tokens=verifier())
        assert (await authenticator.caller(signed())).name == "jwt:ada"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"jwt_key": SECRET}, "jwt_audience is missing"),
        ({"jwt_audience": "a"}, "jwt_jwks_url or jwt_key"),
        ({"jwt_key": SECRET, "jwt_jwks_url": "https://i", "jwt_audience": "a"}, "give one"),
        ({"jwt_key": SECRET, "jwt_audience": "a", "jwt_algorithms": "RS256"}, "does not go with"),
        (
            {"jwt_jwks_url": "https://i", "jwt_audience": "a", "jwt_algorithms": "RS256, HS256"},
            "HS256 does not go with jwt_jwks_url",
        ),
    ],
    ids=str,
)
def test_wrong_settings_are_told(given: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        load_settings(database_url="postgresql://db/x", **given)


def test_a_short_shared_key_is_told() -> None:
    settings = load_settings(database_url="x", jwt_key="short", jwt_audience="a")
    with pytest.raises(ConfigurationError, match="at least 32 bytes"):
        create_app(settings)
