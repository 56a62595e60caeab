"""What the commands read from the environment and from `.env` in the current directory. Temporal's
own settings come from `temporalio.envconfig` (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, profiles).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from tracker.cli.environment import load
from tracker.cli.payload_settings import PayloadSettings
from tracker.client import TrackerClient
from tracker.errors import ConfigurationError
from tracker.store.database import DEFAULT_SCHEMA, Database, DatabaseOptions

DEFAULT_API_URL = "http://localhost:8080"


class CliSettings(PayloadSettings):
    """Settings of the commands, as `FLOWTRAIL_<NAME>` or in `.env`; empty counts as not set."""

    model_config = SettingsConfigDict(
        env_prefix="FLOWTRAIL_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    database_url: SecretStr | None = Field(
        default=None, description="Postgres that holds the tracker's tables."
    )
    direct_database_url: SecretStr | None = Field(
        default=None, description="The same database past a pooler in transaction mode."
    )
    db_schema: str = Field(
        default=DEFAULT_SCHEMA, alias="FLOWTRAIL_SCHEMA", description="Schema of the tables."
    )
    api_url: str = Field(default=DEFAULT_API_URL, description="Where the API listens.")
    api_key: SecretStr | None = Field(default=None, description="Key for the API.")

    def database_options(self, *, readable: bool = False) -> DatabaseOptions:
        """Where the tables are.

        Args:
            readable: Also decrypt values, which may import a policy's module.

        Raises:
            ConfigurationError: No database is set.
        """
        if self.database_url is None:
            raise ConfigurationError(
                "FLOWTRAIL_DATABASE_URL is not set; set it, or let `flowtrail init` write it"
            )
        direct = self.direct_database_url
        return DatabaseOptions(
            self.database_url.get_secret_value(),
            schema=self.db_schema,
            direct_dsn=None if direct is None else direct.get_secret_value(),
            opener=self.keyring() if readable else None,
        )

    def migration_dsn(self) -> str:
        """The database for changes of its tables: past the pooler, where one is named."""
        options = self.database_options()
        return options.direct_dsn or options.dsn

    def client(self) -> TrackerClient:
        """A client of the API."""
        key = self.api_key
        return TrackerClient(self.api_url, None if key is None else key.get_secret_value())


def load_settings() -> CliSettings:
    """Read the settings.

    Raises:
        ConfigurationError: One is malformed.
    """
    return load(CliSettings)


@asynccontextmanager
async def open_database() -> AsyncGenerator[Database]:
    """The database of the settings.

    Raises:
        ConfigurationError: No database is set.
    """
    async with Database(load_settings().database_options(), max_connections=1) as database:
        yield database


def temporal_namespace() -> str:
    """Temporal namespace of the active profile."""
    from temporalio.envconfig import ClientConfig  # 0.2 s that most commands can save.

    config = ClientConfig.load_client_connect_config()
    return config.get("namespace") or "default"
