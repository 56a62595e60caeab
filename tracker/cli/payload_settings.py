"""Settings about values, which every program that reads or writes the tables has."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from tracker.core.payloads import PayloadPolicy, Treatment
from tracker.encryption import Keyring
from tracker.payload_policy import described_policy


class PayloadSettings(BaseSettings):
    """How values are converted, kept and encrypted: everywhere as the workers do."""

    data_converter: str | None = Field(
        default=None, description="`module:attribute` of the workers' Temporal data converter."
    )
    payload_default: Treatment | None = Field(
        default=None, description="What is kept of values: full, redacted, digest, none, encoded."
    )
    payload_policy: str | None = Field(
        default=None, description="`module:attribute` of the workers' PayloadPolicy, instead."
    )
    encryption_keys: SecretStr | None = Field(
        default=None, description="Keys that encrypt values: id:base64,…,digest:base64."
    )

    def policy(self) -> PayloadPolicy:
        """What is kept of values.

        Raises:
            ConfigurationError: The settings contradict each other, or one is malformed.
        """
        keys = self.encryption_keys
        return described_policy(
            default=self.payload_default,
            path=self.payload_policy,
            keys=None if keys is None else keys.get_secret_value(),
        )

    def keyring(self) -> Keyring | None:
        """The keys that decrypt values; None: there are none.

        Raises:
            ConfigurationError: As `policy`.
        """
        sealer = self.policy().sealer
        return sealer if isinstance(sealer, Keyring) else None
