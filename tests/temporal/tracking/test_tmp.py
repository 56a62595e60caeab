from __future__ import annotations
import time, pytest, asyncio, sys, io
from tests.temporal.tracking.test_endings import test_terminate as the_test
from tests.temporal.tracking.harness import *
async def watchdog():
    await asyncio.sleep(12)
    for t in asyncio.all_tasks():
        print("DBG TASK", t.get_name())
        s=io.StringIO(); t.print_stack(file=s)
        for line in s.getvalue().splitlines(): print("DBG     ", line)
@pytest.mark.parametrize("n",range(60))
async def test_loop(tracked: Tracked, n) -> None:
    w=asyncio.create_task(watchdog())
    try: await the_test(tracked)
    finally: w.cancel()
