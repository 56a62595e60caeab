"""`TrackerPlugin`: the one line by which a Python client's workers are tracked.

    client = await Client.connect(..., plugins=[TrackerPlugin(dsn="postgresql://…")])

Give it to the client; its workers inherit it. It never migrates the database and never lets a
tracking failure reach a workflow.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from temporalio.client import Client, ClientConfig
from temporalio.plugin import SimplePlugin
from temporalio.runtime import Runtime
from temporalio.worker import (
    Interceptor,
    ReplayerConfig,
    Worker,
    WorkerConfig,
    WorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from tracker.core.payloads import PayloadPolicy, Treatment
from tracker.core.ref_rules import RefRule
from tracker.errors import ConfigurationError, InvalidRequest
from tracker.log import install
from tracker.payload_policy import described_policy
from tracker.recorder.options import Durability, RecorderOptions, default_spill_dir
from tracker.store.database import DEFAULT_SCHEMA, DatabaseOptions
from tracker.temporal.interceptor import TrackerInterceptor
from tracker.temporal.marks import check_marks
from tracker.temporal.recorders import shared_recorder
from tracker.temporal.ref_rules import check_rules, live_rules
from tracker.temporal.scope import Selection, WorkerScope, current_scope
from tracker.temporal.workflow_types import seen_types

PASSED_THROUGH = "tracker"
"""Our modules are not executed again in each workflow's sandbox: that costs milliseconds per
workflow instance, and they keep no state that a workflow could leak through."""


class TrackerPlugin(SimplePlugin):
    """Tracks every workflow and activity of a client's workers in Postgres.

    Args:
        dsn: Database that `flowtrail migrate` has prepared; libpq URL or keyword string.
        schema: Schema of the tracker's tables.
        durability: `awaited` or `buffered`, see `RecorderOptions`.
        payloads: What is kept of inputs, outputs, errors and metadata.
        include, exclude: Shell patterns on the workflow type; `exclude` wins.
        ref_rules: Give a ref to runs whose memo carries none; the first that fits decides. Live,
            only rules on the workflow id can be applied; the others follow from history.
        spill_dir: Folder for events that the database does not take now.
        recorder: All recorder options at once, instead of the single ones.

    With `FLOWTRAIL_DISABLED=1` in the environment the plugin records nothing. It still puts its
    header and memo field on what workflows start, so that histories do not differ.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        schema: str = DEFAULT_SCHEMA,
        durability: Durability = "awaited",
        payloads: PayloadPolicy | None = None,
        include: Sequence[str] = ("*",),
        exclude: Sequence[str] = (),
        ref_rules: Sequence[RefRule] = (),
        spill_dir: str | Path | None = None,
        recorder: RecorderOptions | None = None,
    ) -> None:
        self._recorder_options = recorder or _recorder_options(dsn, schema, durability, spill_dir)
        self._payloads = payloads or PayloadPolicy()
        self._selection = Selection(tuple(include), tuple(exclude))
        check_rules(ref_rules)
        self._ref_rules = live_rules(ref_rules) if ref_rules else None
        self._disabled = os.environ.get("FLOWTRAIL_DISABLED", "") not in ("", "0")
        self._interceptor = TrackerInterceptor()
        super().__init__(  # pyright: ignore[reportUnknownMemberType]  # Bare `Callable` upstream.
            "flowtrail.TrackerPlugin",
            workflow_runner=_with_passthrough,
            workflow_failure_exception_types=_with_own_errors,
        )

    @classmethod
    def from_env(
        cls, environment: Mapping[str, str] | None = None, **options: Any
    ) -> TrackerPlugin:
        """A plugin configured by the environment: `FLOWTRAIL_DATABASE_URL` (required),
        `FLOWTRAIL_SCHEMA`, `FLOWTRAIL_DURABILITY`, `FLOWTRAIL_SPILL_DIR`, and, where `payloads` is
        not among the options, `FLOWTRAIL_PAYLOAD_DEFAULT`, `FLOWTRAIL_PAYLOAD_POLICY` and
        `FLOWTRAIL_ENCRYPTION_KEYS`.

        Args:
            environment: Instead of the process's own.
            options: Further arguments of the constructor.

        Raises:
            ConfigurationError: The database URL is missing, or a setting malformed.
        """
        given = os.environ if environment is None else environment
        dsn = given.get("FLOWTRAIL_DATABASE_URL")
        if not dsn:
            raise ConfigurationError(
                "FLOWTRAIL_DATABASE_URL is not set; give the Postgres URL that holds the "
                "tracker's tables, e.g. postgresql://user@host/database"
            )
        named = {
            "schema": given.get("FLOWTRAIL_SCHEMA"),
            "durability": given.get("FLOWTRAIL_DURABILITY"),
            "spill_dir": given.get("FLOWTRAIL_SPILL_DIR"),
        }
        options.setdefault("payloads", _described_policy(given))
        return cls(dsn, **{name: value for name, value in named.items() if value}, **options)

    def configure_client(self, config: ClientConfig) -> ClientConfig:
        """Become the outermost interceptor: an inner one would see errors that others rewrote."""
        config = super().configure_client(config)
        others = [i for i in config.get("interceptors", []) if i is not self._interceptor]
        config["interceptors"] = [self._interceptor, *others]
        return config

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """Make the worker's scope, and leave it where `run_worker` finds it."""
        config = super().configure_worker(config)
        scope = self._scope(config)
        _check_marks(config, scope.policy)
        self._interceptor.construct_worker(scope)
        given = _plain(config)
        # Given to the worker alone, the plugin's interceptor does not come with the client.
        from_client = given["client"].config(active_config=True)["interceptors"]
        own = [] if self._interceptor in from_client else [self._interceptor]
        # An interceptor that intercepts nothing: the public way from a config to its worker.
        carrier = _ScopeCarrier(scope)
        config["interceptors"] = [*own, *(given.get("interceptors") or []), carrier]
        install("temporalio.workflow", "temporalio.activity")
        return config

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """Record while the worker runs; flush after its last activity has ended."""
        scope = _scope_of(worker)
        if self._disabled or scope is None:
            await next(worker)
            return
        meter = worker.client.service_client.config.runtime
        async with shared_recorder(self._recorder_options, _meter(meter)) as recorder:
            scope.recorder = recorder
            # Until the worker was constructed, the SDK had not settled it.
            scope.build_id = scope.build_id or _default_build_id()
            token = current_scope.set(scope)
            _announce(worker, scope)
            try:
                await next(worker)
            finally:
                current_scope.reset(token)
                scope.recorder = None

    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        """Replay with our interceptor, which without a scope records nothing."""
        config = super().configure_replayer(config)
        others = [i for i in config.get("interceptors") or [] if i is not self._interceptor]
        config["interceptors"] = [TrackerInterceptor(), *others]
        return config

    def _scope(self, config: WorkerConfig) -> WorkerScope:
        given = _plain(config)
        client: Client = given["client"]
        converter = client.data_converter
        return WorkerScope(
            namespace=client.namespace,
            task_queue=given["task_queue"],
            worker_identity=given.get("identity") or client.service_client.config.identity,
            build_id=_build_id(given),
            policy=self._payloads.resolved(has_codec=converter.payload_codec is not None),
            payload_converter=converter.payload_converter,
            has_codec=converter.payload_codec is not None,
            selection=self._selection,
            ref_rules=self._ref_rules,
        )


class _ScopeCarrier(Interceptor):
    def __init__(self, scope: WorkerScope) -> None:
        self.scope = scope


def _recorder_options(
    dsn: str | None, schema: str, durability: Durability, spill_dir: str | Path | None
) -> RecorderOptions:
    if not dsn:
        raise ConfigurationError(
            "TrackerPlugin needs a database: pass dsn=…, or use TrackerPlugin.from_env()"
        )
    return RecorderOptions(
        database=DatabaseOptions(dsn, schema=schema),
        durability=durability,
        spill_dir=Path(spill_dir) if spill_dir else default_spill_dir(),
    )


def _described_policy(environment: Mapping[str, str]) -> PayloadPolicy:
    default = environment.get("FLOWTRAIL_PAYLOAD_DEFAULT") or None
    if default is not None and default not in list(Treatment):
        raise ConfigurationError(
            f"FLOWTRAIL_PAYLOAD_DEFAULT: expected one of {', '.join(Treatment)}, got {default!r}"
        )
    return described_policy(
        default=None if default is None else Treatment(default),
        path=environment.get("FLOWTRAIL_PAYLOAD_POLICY") or None,
        keys=environment.get("FLOWTRAIL_ENCRYPTION_KEYS") or None,
    )


def _scope_of(worker: Worker) -> WorkerScope | None:
    config = _plain(worker.config(active_config=True))
    interceptors: Sequence[Any] = config.get("interceptors") or []
    found = [i.scope for i in interceptors if isinstance(i, _ScopeCarrier)]
    return found[-1] if found else None


def _check_marks(config: WorkerConfig, policy: PayloadPolicy) -> None:
    given = _plain(config)
    check_marks(policy, [*(given.get("workflows") or ()), *(given.get("activities") or ())])


def _announce(worker: Worker, scope: WorkerScope) -> None:
    try:
        for seen in seen_types(worker, scope.selection):
            scope.record(seen)
    except Exception:  # It reads what the SDK keeps to itself; a worker must start without.
        scope.failed("workflow types")


def _default_build_id() -> str | None:
    """What the SDK tells the server as the build id of workers that have none: a digest of the code
    that is loaded. It keeps the value to itself; without it, history tells it later."""
    module = sys.modules.get("temporalio.worker._worker")
    return getattr(module, "_default_build_id", None)


def _plain(config: WorkerConfig) -> Mapping[str, Any]:
    # Temporal's TypedDict holds bare generics that a strict type checker cannot read.
    return cast("Mapping[str, Any]", config)


def _build_id(config: Mapping[str, Any]) -> str | None:
    deployment = config.get("deployment_config")
    if deployment is not None:
        return deployment.version.build_id
    return config.get("build_id")


def _meter(runtime: Any) -> Any:

    return (runtime or Runtime.default()).metric_meter


def _with_passthrough(runner: WorkflowRunner | None) -> WorkflowRunner:
    if not isinstance(runner, SandboxedWorkflowRunner):
        return cast("WorkflowRunner", runner)
    restrictions = runner.restrictions.with_passthrough_modules(PASSED_THROUGH)
    return dataclasses.replace(runner, restrictions=restrictions)


def _with_own_errors(
    types: Sequence[type[BaseException]] | None,
) -> Sequence[type[BaseException]]:
    # A malformed ref is the same in every replay: as a mere task failure it would retry for ever.
    return [*(types or ()), InvalidRequest]
