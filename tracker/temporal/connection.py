"""The connection of a program to Temporal, from Temporal's own settings (`TEMPORAL_ADDRESS`,
`TEMPORAL_NAMESPACE`, TOML profiles)."""

from __future__ import annotations

from collections.abc import Sequence

from temporalio.client import Client, Interceptor, Plugin
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfig

from tracker.payload_policy import loaded

DEFAULT_ADDRESS = "localhost:7233"


async def connect(
    data_converter: str | None = None,
    *,
    plugins: Sequence[Plugin] = (),
    interceptors: Sequence[Interceptor] = (),
    lazy: bool = True,
) -> Client:
    """A client, as Temporal's settings say.

    Args:
        data_converter: `module:attribute` of the one that the workers use; None: the default.
        lazy: Connect at the first call, so that Temporal need not be there yet. A worker's client
            cannot be lazy.

    Raises:
        ConfigurationError: It names nothing, or no data converter.
    """
    converter = DataConverter.default if data_converter is None else load_converter(data_converter)
    config = ClientConfig.load_client_connect_config()
    config.setdefault("target_host", DEFAULT_ADDRESS)
    return await Client.connect(
        **config, data_converter=converter, plugins=plugins, interceptors=interceptors, lazy=lazy
    )


def load_converter(path: str) -> DataConverter:
    """Import a data converter by `module:attribute`.

    Raises:
        ConfigurationError: It names nothing, or no data converter.
    """
    return loaded(path, DataConverter)
