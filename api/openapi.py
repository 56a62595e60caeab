"""What the OpenAPI document says beside what the routes say themselves."""

from __future__ import annotations

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
    {"name": "refs", "description": "Everything of one business object."},
    {"name": "workflows", "description": "Workflow types, and workflows: one type for one ref."},
    {"name": "health", "description": "For load balancers, orchestrators and Prometheus."},
]
