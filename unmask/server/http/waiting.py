"""Waiting for work on behalf of a client that may leave."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from fastapi import Request
from starlette.exceptions import HTTPException

Result = TypeVar("Result")


async def unless_gone(request: Request, work: Coroutine[None, None, Result]) -> Result:
    """The result of the work, which is cancelled when the client hangs up."""
    working = asyncio.create_task(work)
    # The body has been read, so the next message can only be the disconnect.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise HTTPException(499, "the client has gone")  # nobody reads this but the log
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.wait({working, gone})
