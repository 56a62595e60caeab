"""What the programs share of reading the environment. Only programs read it; the library takes
arguments."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tracker.cli.payload_settings import PayloadSettings
from tracker.errors import ConfigurationError
from tracker.store.database import DEFAULT_SCHEMA, DatabaseOptions

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


class ProgramSettings(PayloadSettings):
    """Settings of every serving program, as `FLOWTRAIL_<NAME>` or in `.env` of the current
    directory; empty counts as not set."""

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
    changes_kept: float = Field(
        default=86_400,
        ge=60,
        le=31_536_000,
        description="Seconds for which changes of the live feed are kept.",
    )
    tracing: bool = Field(default=False, description="Send OpenTelemetry spans by OTLP.")
    log_format: Literal["console", "json"] = Field(
        default="console", description="Logs for people or for machines."
    )

    def database_options(self) -> DatabaseOptions:
        """Where the tables are."""
        direct = self.direct_database_url
        return DatabaseOptions(
            self.database_url.get_secret_value(),
            schema=self.db_schema,
            direct_dsn=None if direct is None else direct.get_secret_value(),
            opener=self.keyring(),
        )


def load(settings: type[SettingsT], **given: Any) -> SettingsT:
    """Read settings; what is given here wins over the environment.

    Raises:
        ConfigurationError: One is missing, malformed, or contradicts another; it says which.
    """
    try:
        return settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper().removeprefix("FLOWTRAIL_")
        setting = f"setting FLOWTRAIL_{name}: " if name else ""
        raise ConfigurationError(f"{setting}{first['msg']}") from error
