"""Checks of Temporal for `flowtrail doctor`: is it reachable, and the namespace there?"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from tracker.core.diagnosis import Finding, failed, ok, skipped, warning

ANSWERS_WITHIN = timedelta(seconds=5)
RETENTION = timedelta(days=1)
"""Less, and a reconciler that is away for a day leaves runs unconfirmed for good."""


async def diagnose_temporal(client: Client) -> AsyncGenerator[Finding]:
    """Look at the cluster and the namespace of a client, which may be lazy.

    Yields:
        Findings, the more basic ones first.
    """
    service, address = client.workflow_service, client.service_client.config.target_host
    try:
        info = await service.get_system_info(GetSystemInfoRequest(), timeout=ANSWERS_WITHIN)
    except (RPCError, RuntimeError) as error:
        yield failed(
            "temporal",
            f"{address} does not answer: {error}",
            "look whether it runs, and at TEMPORAL_ADDRESS, TEMPORAL_PROFILE and the TLS settings",
        )
        yield skipped("namespace", "no Temporal")
        return
    yield ok("temporal", f"{info.server_version or 'some version'} at {address}")
    yield await _namespace(client)


async def _namespace(client: Client) -> Finding:
    name = client.namespace
    try:
        told = await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=name), timeout=ANSWERS_WITHIN
        )
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return failed(
                "namespace",
                f"there is no namespace {name!r}",
                "create it, or correct TEMPORAL_NAMESPACE",
            )
        return failed(
            "namespace", f"{name}: {error.message}", "look at the key or certificate that is used"
        )
    kept = told.config.workflow_execution_retention_ttl.ToTimedelta()
    if kept < RETENTION:
        return warning(
            "namespace",
            f"{name} keeps histories for {kept} only",
            "raise its retention to three days: what is gone cannot be confirmed",
        )
    return ok("namespace", f"{name}, histories are kept for {kept.days * 24} hours")
