"""The site that most faults share, and the table of what became of each."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.conftest import TEMPLATE
from tests.faults.load import Blow, Load
from tests.faults.servers import Servers
from tests.faults.site import Site, site_on, together
from tests.faults.verdict import Verdict, judge
from tracker.migrations import migrate

SHORT = (8, 4)
"""Runs held in flight, and runs asked for during the fault."""
LONG = (40, 40)
VERDICTS = pytest.StashKey[list[Verdict]]()


async def nothing(_: Load) -> None:
    """Needs no recovery, or no wait."""


@dataclass(frozen=True)
class Endure:
    """Lets a fault hit a site under load, and records the verdict."""

    runs: tuple[int, int]
    verdicts: list[Verdict] = field(default_factory=list[Verdict])

    async def __call__(
        self,
        site: Site,
        fault: str,
        blow: Blow,
        *,
        meanwhile: Blow = nothing,
        recover: Blow = nothing,
        over_http: bool = True,
        may_lose_attempts: bool = False,
    ) -> Load:
        """Hold runs in flight, blow, ask for more, open the gate, recover, judge.

        Args:
            fault: Its name in the table.
            blow: The fault.
            meanwhile: What must come to pass before the recovery.
            recover: Ends the fault; all that is dead is started again in any case.
            over_http: Whether the site has an API.
            may_lose_attempts: The fault may cost what only a worker saw.
        """
        load = Load(site, over_http)
        try:
            held, more = self.runs
            await load.begin(held)
            in_flight = await load.in_flight()
            assert in_flight > 0, "no run was in flight at the blow"
            await blow(load)
            load.ask(more)
            load.release()
            await meanwhile(load)
            await recover(load)
            await together([site.heal(), load.all_accepted()])
            await load.closed()
            verdict = await judge(load, fault, in_flight)
        except BaseException:
            site.tell_logs()
            raise
        finally:
            await load.cancel()
        self.record(verdict, may_lose_attempts=may_lose_attempts)
        return load

    def record(self, verdict: Verdict, *, may_lose_attempts: bool = False) -> None:
        """Put a verdict into the table; fails the test unless it is clean."""
        self.verdicts.append(verdict)
        wrong = verdict.differences + verdict.lost + verdict.doubled + verdict.wrong_results
        wrong += verdict.attempts_doubled
        wrong += 0 if may_lose_attempts else verdict.attempts_lost
        assert wrong == 0, "\n".join([f"{verdict.fault}: {wrong} wrong", *verdict.details])


@pytest.fixture
def endure(pytestconfig: pytest.Config, soaking: bool) -> Endure:
    """See `Endure`."""
    verdicts = pytestconfig.stash.setdefault(VERDICTS, [])
    return Endure(LONG if soaking else SHORT, verdicts)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The suite's own servers, which may be killed."""
    with TemporaryDirectory(prefix="flowtrail-faults-") as folder:
        os.chmod(folder, 0o755)  # PostgreSQL may run as another user.
        servers = Servers(Path(folder))
        try:
            servers.postgres.create_database(TEMPLATE)
            migrate(servers.postgres.dsn(TEMPLATE))
            yield servers
        finally:
            servers.stop()


@pytest.fixture(scope="session")
async def shared_site(
    servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    """The site of all faults that leave nothing behind."""
    async with site_on(servers, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
async def site(shared_site: Site) -> AsyncIterator[Site]:
    """The shared site, healed before the fault."""
    await shared_site.heal()
    try:
        yield shared_site
    finally:
        await shared_site.heal()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table: fault, runs in flight at the blow, differences, lost, doubled."""
    verdicts = config.stash.get(VERDICTS, [])
    if not verdicts:
        return
    terminalreporter.section("faults")
    titles = ("in flight", "accepted", "differences", "lost", "doubled", "attempts lost")
    terminalreporter.write_line("  ".join(["fault".ljust(42), *titles]))
    for found in verdicts:
        figures = (
            found.in_flight,
            found.accepted,
            found.differences,
            found.lost,
            found.doubled,
            found.attempts_lost,
        )
        cells = [str(n).rjust(len(t)) for t, n in zip(titles, figures, strict=True)]
        terminalreporter.write_line("  ".join([found.fault.ljust(42), *cells]))
