"""Health check of a worker container: does a worker of this host poll the task queue?

Exits 1 if none did lately. It asks Temporal rather than the process, for a worker that has lost its
connection looks alive from outside. Relies on Temporal's default worker identity, `pid@host`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig


async def host_polls(task_queue: str) -> bool:
    """Whether Temporal saw a poll of this host within its memory of pollers, about 5 minutes."""
    client = await Client.connect(**ClientConfig.load_client_connect_config())
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
    )
    host = f"@{socket.gethostname()}"
    return any(poller.identity.endswith(host) for poller in answer.pollers)


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(host_polls(os.environ["FLOWTRAIL_TASK_QUEUE"])) else 1)
