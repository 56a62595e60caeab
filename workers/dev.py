"""`flowtrail dev`: the whole stack on one machine, then the example job through the front door.

Servers are embedded unless the environment names others (`FLOWTRAIL_DATABASE_URL`,
`TEMPORAL_ADDRESS` or a Temporal profile). API and worker are processes of their own, as in
production, and are ended by pid. Data stays in `.flowtrail/`.
"""

from __future__ import annotations

import asyncio
import csv
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from temporalio.envconfig import ClientConfigProfile

from tracker.client import AsyncTrackerClient
from tracker.embedded.ports import LOOPBACK, free_port
from tracker.embedded.postgres import EmbeddedPostgres
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.errors import TrackerError
from tracker.migrations import migrate
from workers.answer import print_answer
from workers.smtp_sink import SmtpSink

DATA = Path(".flowtrail")
RECIPIENTS = Path(__file__).parent.parent / "examples" / "recipients.csv"
POSTGRES_PORT, TEMPORAL_PORT, UI_PORT, API_PORT, SMTP_PORT = 5433, 7233, 8233, 8080, 1025
READY_WITHIN = 30.0
"""Seconds that API and worker may take to come up."""
JOB_WITHIN = 120.0
"""Seconds that the example job may take."""
STOP_WITHIN = 15.0
"""Seconds that a child gets to end before it is killed."""

# A pipe has no width; 80 columns would cut the table.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


class DevFailed(Exception):
    """Something did not come up, or the example job failed; the message says what and where."""


@dataclass
class Addresses:
    """Where things listen; None for a server that is not ours."""

    database_url: str
    temporal: str | None
    temporal_ui: str | None
    smtp_port: int
    api_port: int

    @property
    def api(self) -> str:
        return f"http://{LOOPBACK}:{self.api_port}"

    def environment(self) -> dict[str, str]:
        """What the child processes are told."""
        told = {
            "FLOWTRAIL_DATABASE_URL": self.database_url,
            "FLOWTRAIL_API_PORT": str(self.api_port),
            "FLOWTRAIL_SMTP_PORT": str(self.smtp_port),
            "FLOWTRAIL_SPILL_DIR": str(DATA.absolute() / "spill"),
        }
        if "FLOWTRAIL_AUTH" not in os.environ:
            told["FLOWTRAIL_AUTH"] = "off"  # Loopback only, which the API insists on.
        if self.temporal is not None:
            told["TEMPORAL_ADDRESS"] = self.temporal
        return {**os.environ, **told}


async def run_dev(*, once: bool, verify: bool = False) -> None:
    """Start everything, run the example job, stay until Ctrl-C or, with `once`, stop.

    Args:
        verify: Hold all that is on record against Temporal after the job, then stop.

    Raises:
        DevFailed: If something did not come up, the job failed, or the tables are not true.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    DATA.mkdir(exist_ok=True)  # noqa: ASYNC240  # Nothing else runs yet.
    async with AsyncExitStack() as stack:
        addresses = await _start_servers(stack)
        children = [
            await stack.enter_async_context(_child(name, addresses)) for name in ("worker", "api")
        ]
        job = asyncio.create_task(_run_job(addresses))
        failed = [asyncio.create_task(child.ended()) for child in children]
        stopping = asyncio.create_task(stop.wait())
        try:
            await _first(job, stopping, *failed)
            if job.done():
                job.result()
                if verify:
                    await _verify(addresses)
                else:
                    _print_addresses(addresses, once=once)
            if not (once or verify) and not stop.is_set():
                await _first(stopping, *failed)
        finally:
            for task in (job, stopping, *failed):
                task.cancel()


async def _first(*tasks: asyncio.Task[object]) -> None:
    """Wait for the first of these to end; raise what it raises."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _start_servers(stack: AsyncExitStack) -> Addresses:
    database_url = os.environ.get("FLOWTRAIL_DATABASE_URL") or await _start_postgres(stack)
    await asyncio.to_thread(migrate, database_url, os.environ.get("FLOWTRAIL_SCHEMA", "flowtrail"))
    temporal = None
    if ClientConfigProfile.load().address is None:
        temporal = await asyncio.to_thread(
            EmbeddedTemporal.start,
            DATA / "temporal.db",
            port=TEMPORAL_PORT,
            ui_port=UI_PORT,
            log_file=DATA / "temporal.log",
        )
        stack.callback(temporal.stop)
        _say_if_moved("Temporal", TEMPORAL_PORT, temporal.port)
    sink = SmtpSink()
    smtp_port = await sink.start(port=free_port(SMTP_PORT), folder=DATA / "mail")
    stack.push_async_callback(sink.stop)
    _say_if_moved("the SMTP sink", SMTP_PORT, smtp_port)
    preferred = int(os.environ.get("FLOWTRAIL_API_PORT", API_PORT))
    api_port = free_port(preferred)
    _say_if_moved("the API", preferred, api_port)
    return Addresses(
        database_url,
        temporal.address if temporal else None,
        temporal.ui_url if temporal else None,
        smtp_port,
        api_port,
    )


async def _start_postgres(stack: AsyncExitStack) -> str:
    server = await asyncio.to_thread(EmbeddedPostgres.start, DATA / "postgres", port=POSTGRES_PORT)
    stack.callback(server.stop)
    _say_if_moved("Postgres", POSTGRES_PORT, server.port)
    await asyncio.to_thread(server.create_database, "flowtrail", exist_ok=True)
    return server.dsn("flowtrail")


def _say_if_moved(what: str, preferred: int, taken: int) -> None:
    if taken != preferred:
        console.print(f"[yellow]Port {preferred} is busy: {what} listens on {taken}.")


@dataclass
class _Child:
    name: str
    process: asyncio.subprocess.Process
    log: Path

    async def ended(self) -> None:
        """Wait for the process to end, which it never should by itself.

        Raises:
            DevFailed: Always.
        """
        code = await self.process.wait()
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        raise DevFailed(
            f"the {self.name} ended with code {code}; last lines of {self.log}:\n{tail}"
        )

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), STOP_WITHIN)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()


@asynccontextmanager
async def _child(name: str, addresses: Addresses) -> AsyncGenerator[_Child]:
    """`flowtrail <name>` as a process, its output in a log file."""
    log = DATA / f"{name}.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tracker.cli",
            name,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=addresses.environment(),
            # Ctrl-C in the terminal is ours to pass on, in order.
            start_new_session=True,
        )
    child = _Child(name, process, log)
    try:
        yield child
    finally:
        await child.stop()


async def _run_job(addresses: Addresses) -> None:
    """Start the example campaign over HTTP, wait for it, print the answer by reference."""
    with RECIPIENTS.open(newline="") as lines:
        recipients = [row["address"] for row in csv.DictReader(lines)]
    key = os.environ.get("FLOWTRAIL_API_KEY")
    async with AsyncTrackerClient(addresses.api, api_key=key) as client:
        await _ready(client)
        started = await client.start_workflow(
            "email_campaign",
            {"recipients": recipients, "subject": "Spring news", "body": "It is spring."},
            ref_type="campaign",
            ref_id="spring",
            metadata={"source": "flowtrail dev"},
        )
        console.print(
            f"Started {started.workflow_type} for campaign/spring, run {started.run_id} …"
        )
        try:
            await client.result(started.run_id, timeout=JOB_WITHIN)
        except TrackerError as error:
            raise DevFailed(
                f"the example job did not complete: {error}; see {DATA}/worker.log, {DATA}/api.log"
            ) from error
        overview = await client.runs_by_ref("campaign/spring")
        print_answer(console, overview, await client.get_run(started.run_id))


async def _verify(addresses: Addresses) -> None:
    """`flowtrail verify` on the whole stack, its output on ours."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tracker.cli", "verify", env=addresses.environment()
    )
    code = await process.wait()
    if code != 0:
        raise DevFailed(f"flowtrail verify ended with code {code}")


async def _ready(client: AsyncTrackerClient) -> None:
    """Wait until the API answers and a worker has announced the example."""
    problem = "nothing answered"
    try:
        async with asyncio.timeout(READY_WITHIN):
            while True:
                try:
                    types = await client.workflow_types()
                    if any(found.registered_at for found in types):
                        return
                    problem = "no worker has announced its workflow types"
                except TrackerError as error:
                    problem = str(error)
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise DevFailed(
            f"not ready within {READY_WITHIN:.0f} s ({problem}); see {DATA}/api.log and "
            f"{DATA}/worker.log"
        ) from None


def _write_url(addresses: Addresses) -> Path:
    """The database URL holds a password: into a private file, not onto the screen."""
    path = DATA / "database-url"
    path.touch(mode=0o600)
    path.write_text(addresses.database_url + "\n")
    return path


def _print_addresses(addresses: Addresses, *, once: bool) -> None:
    console.print()
    console.print(f"API docs      {addresses.api}/docs")
    console.print(f"By reference  {addresses.api}/v1/refs/campaign/spring")
    if addresses.temporal_ui:
        console.print(f"Temporal UI   {addresses.temporal_ui}")
    console.print(f'SQL           psql "$(cat {_write_url(addresses)})"')
    console.print(f"Mail          {DATA}/mail")
    console.print(f"Logs          {DATA}/api.log, {DATA}/worker.log")
    if not once:
        console.print("Stop with Ctrl-C.")
