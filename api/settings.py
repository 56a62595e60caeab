"""What the API process reads from the environment; Temporal's own settings come from
`temporalio.envconfig` (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, TOML profiles)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tracker.core.payloads import Treatment
from tracker.errors import ConfigurationError
from tracker.store.database import DEFAULT_SCHEMA, DatabaseOptions


class ApiSettings(BaseSettings):
    """Settings of `flowtrail api`, as `FLOWTRAIL_<NAME>` or in `.env`; empty counts as not set."""

    model_config = SettingsConfigDict(
        env_prefix="FLOWTRAIL_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    database_url: SecretStr = Field(description="Postgres that holds the tracker's tables.")
    direct_database_url: SecretStr | None = Field(
        default=None, description="The same database past a pooler in transaction mode."
    )
    db_schema: str = Field(
        default=DEFAULT_SCHEMA, alias="FLOWTRAIL_SCHEMA", description="Schema of the tables."
    )
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
    data_converter: str | None = Field(
        default=None, description="`module:attribute` of the workers' Temporal data converter."
    )
    payload_default: Treatment | None = Field(
        default=None,
        description="What is kept of inputs: full, redacted, digest, none, encoded; as workers do.",
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
    log_format: Literal["console", "json"] = Field(default="console")

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

    def database_options(self) -> DatabaseOptions:
        """Where the tables are."""
        direct = self.direct_database_url
        return DatabaseOptions(
            self.database_url.get_secret_value(),
            schema=self.db_schema,
            direct_dsn=None if direct is None else direct.get_secret_value(),
        )


def load_settings(**given: Any) -> ApiSettings:
    """Read the settings; what is given here wins over the environment.

    Raises:
        ConfigurationError: One is missing, malformed, or contradicts another.
    """
    try:
        return ApiSettings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "_".join(str(part) for part in first["loc"])
        setting = f"setting FLOWTRAIL_{name.upper().removeprefix('FLOWTRAIL_')}: " if name else ""
        raise ConfigurationError(f"{setting}{first['msg']}") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address. A name other than `localhost` may resolve to
    anything, hence no."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
