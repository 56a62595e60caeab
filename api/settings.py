"""What the API process reads from the environment; Temporal's own settings come from
`temporalio.envconfig` (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, TOML profiles)."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from api.key_sets import KeySet
from api.tokens import (
    PUBLIC_ALGORITHMS,
    SHARED_ALGORITHMS,
    SharedKey,
    TokenRules,
    TokenVerifier,
)
from tracker.cli.environment import ProgramSettings, load


class ApiSettings(ProgramSettings):
    """Settings of `flowtrail api`."""

    max_connections: int = Field(default=10, ge=1, description="Database connections at most.")
    api_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    api_port: int = Field(default=8080, ge=0, le=65535, description="Port; 0: any free one.")
    auth: Literal["on", "off"] = Field(
        default="on", description="Whether API keys are asked for; `off` on loopback only."
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Web origins that may call the API, separated by commas."
    )
    body_limit: int = Field(
        default=2 * 1024 * 1024, ge=1024, description="Bytes of a request's body at most."
    )
    search_attributes: bool = Field(
        default=False, description="Also set RefType and RefId in Temporal, where registered."
    )
    start_within: float = Field(
        default=2.0, gt=0, description="Seconds for Temporal to take a start before it is queued."
    )
    flowflare_unknown_types: Literal["external", "reject"] = Field(
        default="external",
        description="Starts in Flowflare's language of types that no worker knows: kept as "
        "externally driven runs, or refused.",
    )
    flowflare_ref_in_params: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Workflow types, or *, whose Flowflare starts get ref_id and ref_type among "
        "their params, as the original's did; separated by commas.",
    )
    flowflare_open_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(),
        description="Networks from which Flowflare's updates, queries and socket need no key, "
        "separated by commas.",
    )
    live_connections: int = Field(
        default=2000, ge=1, description="Live connections of one process at most."
    )
    shutdown_grace: int = Field(
        default=10, ge=0, description="Seconds that open requests get to finish at a stop."
    )

    jwt_jwks_url: str | None = Field(
        default=None, description="Key set of the issuer of JSON Web Tokens that are accepted."
    )
    jwt_key: SecretStr | None = Field(
        default=None, description="Shared key that signs them instead, 32 bytes at least."
    )
    jwt_algorithms: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Accepted algorithms: RS256 with a key set, HS256 with a key."
    )
    jwt_audience: str | None = Field(
        default=None, description="`aud` of the tokens; required where tokens are accepted."
    )
    jwt_issuer: str | None = Field(default=None, description="`iss` of the tokens; else any.")
    jwt_scopes_claim: str = Field(
        default="scope", description="Claim with scopes, as `flowtrail:read`; may be a path."
    )
    jwt_rate: float | None = Field(
        default=None, gt=0, description="Requests a second of one token's subject, per process."
    )

    @field_validator(
        "allowed_origins",
        "jwt_algorithms",
        "flowflare_ref_in_params",
        "flowflare_open_networks",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _guarded(self) -> ApiSettings:
        if self.auth == "off" and not is_loopback(self.api_host):
            raise ValueError(
                f"auth=off is for loopback only, and api_host is {self.api_host}: anybody who "
                "reaches it could start and end workflows; leave auth on, or listen on 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _one_kind_of_token(self) -> ApiSettings:
        keys = [name for name in ("jwt_jwks_url", "jwt_key") if getattr(self, name) is not None]
        if len(keys) > 1:
            raise ValueError("tokens are signed by jwt_jwks_url's keys or with jwt_key: give one")
        if not keys:
            if self.jwt_audience or self.jwt_issuer or self.jwt_algorithms:
                raise ValueError("to accept tokens, give jwt_jwks_url or jwt_key as well")
            return self
        if not self.jwt_audience:
            raise ValueError(
                "jwt_audience is missing: without it a token for any other service of the issuer "
                "would open this one"
            )
        possible = SHARED_ALGORITHMS if self.jwt_key is not None else PUBLIC_ALGORITHMS
        wrong = [name for name in self.jwt_algorithms if name not in possible]
        if wrong:
            raise ValueError(
                f"jwt_algorithms: {', '.join(wrong)} does not go with {keys[0]}; "
                f"possible are {', '.join(possible)}"
            )
        return self

    def token_verifier(self) -> TokenVerifier | None:
        """What reads the tokens that are accepted; None: none are.

        Raises:
            ConfigurationError: The shared key is too short.
        """
        if self.jwt_audience is None:
            return None
        shared = self.jwt_key
        rules = TokenRules(
            audience=self.jwt_audience,
            issuer=self.jwt_issuer,
            algorithms=self.jwt_algorithms or (("RS256",) if shared is None else ("HS256",)),
            scopes_claim=self.jwt_scopes_claim,
        )
        if shared is not None:
            return TokenVerifier(rules, SharedKey(shared.get_secret_value()))
        return TokenVerifier(rules, KeySet(self.jwt_jwks_url or ""))


def load_settings(**given: Any) -> ApiSettings:
    """Read the settings; what is given here wins over the environment.

    Raises:
        ConfigurationError: One is missing, malformed, or contradicts another.
    """
    return load(ApiSettings, **given)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address. A name other than `localhost` may resolve to
    anything, hence no."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
