"""`flowtrail refs`: what the rules of `flowtrail.toml` say about runs already on record."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from tracker.cli.output import JsonFlag, one_line, write_json, write_table
from tracker.cli.settings import open_database, temporal_namespace
from tracker.core.ref_rules import Finding, RefRule, RuleSubject, find_ref
from tracker.errors import ConfigurationError
from tracker.store import refs
from tracker.store.refs import Candidate
from tracker.temporal.ref_rules import RULES_FILE, load_rules, search

commands = typer.Typer(no_args_is_help=True, help="Refs that rules find for recorded runs.")

RulesOption = Annotated[Path, typer.Option("--rules", help="TOML file with [[refs]] tables.")]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", help="Temporal namespace; default: the profile's.")
]


@commands.command()
def preview(
    rules: RulesOption = Path(RULES_FILE),
    namespace: NamespaceOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Runs to look at, newest first.")] = 50,
    json: JsonFlag = False,
) -> None:
    """Show what the rules would give, and change nothing.

    Runs whose memo has a ref are left out: no rule overrides it. A rule on a search attribute
    cannot be asked here, for the database holds none; workers and the reconciler ask it.
    """
    known = _rules(rules)
    space = namespace or temporal_namespace()

    async def run() -> list[Candidate]:
        seen: list[Candidate] = []
        async with open_database() as database:
            async for batch in refs.candidates(database, space):
                seen += batch
                if len(seen) >= limit:
                    break
        return seen[:limit]

    asked = [(candidate, _asked(known, candidate)) for candidate in asyncio.run(run())]
    if json:
        write_json({"runs": [_facts(known, candidate, found) for candidate, found in asked]})
        return
    write_table(
        ["RUN", "TYPE", "WORKFLOW ID", "REF NOW", "REF BY RULE"],
        [
            (c.id, c.workflow_type, c.workflow_id, c.ref, found.ref or _reason(found))
            for c, found in asked
        ],
        empty=f"No runs in namespace {space} that a rule could speak about.",
    )


@commands.command()
def apply(
    rules: RulesOption = Path(RULES_FILE),
    namespace: NamespaceOption = None,
    json: JsonFlag = False,
) -> None:
    """Give every recorded run the ref that the rules find, where its memo has none.

    Safe to repeat: after a change of the rules, refs that they gave before are replaced. A run for
    which they find nothing any more keeps its ref.
    """
    known = _rules(rules)
    space = namespace or temporal_namespace()
    counts = asyncio.run(_apply(known, space))
    facts = {name: counts[name] for name in ("looked_at", "found", "changed", "undecided")}
    if json:
        write_json(facts)
        return
    typer.echo(
        f"looked at {facts['looked_at']} runs, found a ref for {facts['found']}, "
        f"changed {facts['changed']}"
    )
    if facts["undecided"]:
        typer.echo(
            f"{facts['undecided']} undecided: their input or search attributes are not recorded"
        )


async def _apply(rules: tuple[RefRule, ...], namespace: str) -> Counter[str]:
    counts = Counter[str]()
    async with open_database() as database:
        async for batch in refs.candidates(database, namespace):
            findings = {candidate.id: _asked(rules, candidate) for candidate in batch}
            found = {key: finding.ref for key, finding in findings.items() if finding.ref}
            counts["looked_at"] += len(batch)
            counts["found"] += len(found)
            counts["undecided"] += sum(f.missing is not None for f in findings.values())
            counts["changed"] += await refs.set_from_rules(database, found)
    return counts


def _rules(path: Path) -> tuple[RefRule, ...]:
    rules = load_rules(path)
    if not rules:
        raise ConfigurationError(
            f"{path} has no [[refs]] tables; each needs ref_type and one of workflow_id, input and "
            "search_attribute"
        )
    return rules


def _asked(rules: tuple[RefRule, ...], candidate: Candidate) -> Finding:
    facts = RuleSubject(candidate.workflow_type, candidate.workflow_id, candidate.input_args)
    return find_ref(rules, facts, search)


def _facts(rules: tuple[RefRule, ...], candidate: Candidate, found: Finding) -> dict[str, Any]:
    return {
        "run_id": candidate.id,
        "workflow_type": candidate.workflow_type,
        "workflow_id": candidate.workflow_id,
        "ref": _pair(candidate.ref),
        "found": _pair(found.ref),
        "rule": None if found.rule is None else rules.index(found.rule) + 1,
        "missing": found.missing,
    }


def _pair(ref: Any) -> dict[str, str] | None:
    return None if ref is None else {"ref_type": ref.ref_type, "ref_id": ref.ref_id}


def _reason(found: Finding) -> str:
    return "" if found.missing is None else one_line(f"? ({found.missing} not recorded)")
