"""What the OpenAPI document says beside what the routes say themselves."""

from __future__ import annotations

from fastapi.openapi.models import Example

DESCRIPTION = """\
Starts Temporal workflows by a business reference, and answers by it what happened.

* **Keys.** `X-API-Key` or `Authorization: Bearer`; scopes `read`, `start`, `control`, `admin`.
* **Ids.** `run_id` is the tracker's; wherever a run is asked for, Temporal's run id works too.
* **Errors.** One shape: `{"error": code, "message", "class", "details"}`; of class `transient` the
  same request may be repeated, after `Retry-After` seconds.
* **Lists.** `next_cursor` leads to the next page of the same filters.
"""

TAGS = [
    {"name": "runs", "description": "One execution of a workflow each."},
    {"name": "control", "description": "Acting on a run; who and why is kept in the audit."},
    {"name": "bulk", "description": "One action on every run of a filter."},
    {"name": "search", "description": "Across runs: what fails, of what, how long things take."},
    {"name": "external", "description": "Runs that something else drives, as it reports them."},
    {"name": "live", "description": "What changes, as it does."},
    {"name": "audit", "description": "What was done by whom."},
    {"name": "refs", "description": "Everything of one business object."},
    {"name": "workflows", "description": "Workflow types, and workflows: one type for one ref."},
    {"name": "health", "description": "For load balancers, orchestrators and Prometheus."},
]

START_EXAMPLES: dict[str, Example] = {
    "by reference": {
        "summary": "One campaign, whatever becomes of the request on its way",
        "value": {
            "workflow_type": "EmailCampaign",
            "input": {
                "recipients": ["ada@example.org"],
                "subject": "Hello",
                "body": "Spring has come.",
            },
            "ref_type": "campaign",
            "ref_id": "campaign-123",
            "metadata": {"department": "marketing"},
            "idempotency_key": "campaign-123-first",
        },
    },
    "own queue": {
        "summary": "A type that no worker has announced, later and for an hour at most",
        "value": {
            "workflow_type": "NightlyReport",
            "args": ["2026-01-31", True],
            "task_queue": "reports",
            "start_delay": 3600,
            "execution_timeout": 3600,
        },
    },
}
