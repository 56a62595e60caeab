"""`flowtrail queues|workers|audit`: who serves what, and who did what."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from tracker.cli.output import JsonFlag, write_json, write_table
from tracker.cli.run_arguments import utc
from tracker.cli.settings import load_settings
from tracker.models.queues import QueueRead, QueueTasks

QueueOption = Annotated[
    list[str] | None,
    typer.Option("--queue", help="Repeatable. Default: all that the tables know."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(queues)
    app.command()(workers)
    app.command()(audit)


def queues(task_queue: QueueOption = None, json: JsonFlag = False) -> None:
    """Show task queues: who polls them, what waits."""
    with load_settings().client() as client:
        found = client.queues(task_queue)
    if json:
        write_json(found)
        return
    write_table(
        ("queue", "tasks", "pollers", "backlog", "oldest", "builds"),
        (row for queue in found.queues for row in _rows(queue)),
        "no task queues",
    )
    if found.truncated:
        typer.echo(f"the first {len(found.queues)}; name others with --queue", err=True)


def workers(task_queue: QueueOption = None, json: JsonFlag = False) -> None:
    """Show workers that polled within the last minutes, and what they poll."""
    with load_settings().client() as client:
        found = client.workers(task_queue)
    if json:
        write_json(found)
        return
    write_table(
        ("worker", "builds", "last poll", "polls"),
        (
            (
                worker.identity,
                ", ".join(worker.build_ids),
                worker.seen_at,
                ", ".join(f"{poll.task_queue} ({poll.kind})" for poll in worker.polls),
            )
            for worker in found.workers
        ),
        "no workers",
    )


def audit(
    actor: Annotated[str | None, typer.Option(help="Name of an API key, or whoever acted.")] = None,
    action: Annotated[str | None, typer.Option(help="Such as cancel.")] = None,
    run_id: Annotated[str | None, typer.Option("--run", help="Our id of the run.")] = None,
    outcome: Annotated[str | None, typer.Option(help="done, or the code of an error.")] = None,
    after: Annotated[datetime | None, typer.Option(help="UTC.")] = None,
    before: Annotated[datetime | None, typer.Option(help="UTC.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    json: JsonFlag = False,
) -> None:
    """List what was done by whom, newest first; needs a key with the scope admin."""
    with load_settings().client() as client:
        page = client.audit(
            actor=actor,
            action=action,
            run_id=run_id,
            outcome=outcome,
            after=utc(after),
            before=utc(before),
            limit=limit,
        )
    if json:
        write_json(page)
        return
    write_table(
        ("at", "by", "action", "run", "outcome", "reason"),
        ((e.at, e.actor, e.action, e.run_id, e.outcome, e.reason) for e in page.entries),
        "nothing was done",
    )
    if page.next_cursor is not None:
        typer.echo(f"the first {limit}; there are more", err=True)


def _rows(queue: QueueRead) -> list[tuple[object, ...]]:
    of_kinds: tuple[tuple[str, QueueTasks], ...] = (
        ("workflow", queue.workflow),
        ("activity", queue.activity),
    )
    return [
        (
            queue.task_queue,
            kind,
            tasks.pollers,
            tasks.backlog,
            f"{tasks.backlog_age:.0f} s",
            ", ".join(tasks.build_ids),
        )
        for kind, tasks in of_kinds
    ]
