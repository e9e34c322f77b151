"""Work that is done once, beside the event loop."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run_in_thread_that_ends(
    function: Callable[P, T], *arguments: P.args, **options: P.kwargs
) -> T:
    """The function's result, from a thread that ends with it.

    A thread of a pool would keep the OpenMP threads that loading weights has started. With more of
    those than cores OpenMP lets waiting threads sleep at once, and every step of the worker would
    take a quarter longer.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            value = function(*arguments, **options)
        except BaseException as error:
            result.set_exception(error)
        else:
            result.set_result(value)

    threading.Thread(target=run, name=f"once-{function.__name__}", daemon=True).start()
    # Shielded: who stops waiting does not stop the thread, which still wants to tell its result.
    return await asyncio.shield(asyncio.wrap_future(result))
