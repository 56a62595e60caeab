"""What the API process reads from the environment; Temporal's own settings come from
`temporalio.envconfig` (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, TOML profiles)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

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
    shutdown_grace: int = Field(
        default=10, ge=0, description="Seconds that open requests get to finish at a stop."
    )

    @field_validator("allowed_origins", mode="before")
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
