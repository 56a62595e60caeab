"""Choosing a free port."""

from __future__ import annotations

import socket

import pytest

from tracker.embedded import process
from tracker.embedded.ports import LOOPBACK, accepts_connections, free_port
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.errors import ConfigurationError

LAST_PORT = 65_535


def test_takes_the_preferred_port_when_it_is_free() -> None:
    port = free_port()
    assert free_port(port) == port
    assert not accepts_connections(port)


def test_takes_one_above_when_it_is_busy() -> None:
    with socket.create_server((LOOPBACK, free_port(20_000))) as busy:
        taken = busy.getsockname()[1]
        assert accepts_connections(taken)
        assert taken < free_port(taken) < taken + 100


def test_a_port_is_free_as_soon_as_its_server_has_stopped() -> None:
    """Its connections linger in TIME_WAIT for a minute; servers may listen all the same."""
    with socket.create_server((LOOPBACK, free_port(21_000))) as server:
        port = server.getsockname()[1]
        client = socket.create_connection((LOOPBACK, port))
        accepted, _ = server.accept()
        accepted.close()
        client.close()
    assert free_port(port) == port


def test_says_that_no_port_is_free() -> None:
    with (
        socket.create_server((LOOPBACK, LAST_PORT)),
        pytest.raises(ConfigurationError, match=r"no free port .* from 65535 to 65535"),
    ):
        free_port(LAST_PORT)


def test_a_server_that_loses_the_race_for_its_port_takes_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server((LOOPBACK, 0)) as rival:
        lost = rival.getsockname()[1]
        answers = iter([lost, free_port()])
        monkeypatch.setattr(process, "free_port", lambda _: next(answers))
        with EmbeddedTemporal.start(headless=True) as server:
            assert server.port != lost
