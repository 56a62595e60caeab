"""Free TCP ports on loopback.

A port is only free at the moment of asking: whoever starts a server on it must be ready to lose
the race and ask again (see `process.start_on_free_port`).
"""

from __future__ import annotations

import socket

from tracker.errors import ConfigurationError

LOOPBACK = "127.0.0.1"

# How far to look above a preferred port before giving up: that many busy neighbours is a mistake.
PORTS_TRIED = 100


def free_port(preferred: int | None = None) -> int:
    """The first free port from `preferred` upwards; any free port without a preference.

    The answer differs from `preferred` when that one is busy: compare them to tell the user.

    Raises:
        ConfigurationError: `preferred` and the ports above it are busy.
    """
    last = 0 if preferred is None else min(preferred + PORTS_TRIED, 65536) - 1
    for candidate in range(preferred or 0, last + 1):
        if port := _bindable(candidate):
            return port
    raise ConfigurationError(
        f"no free port on {LOOPBACK} from {preferred} to {last}: choose another one"
    )


def accepts_connections(port: int) -> bool:
    """Whether somebody listens on this loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _bindable(port: int) -> int | None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: without it a port counts as busy for a minute after its server stopped.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return None
        return probe.getsockname()[1]
