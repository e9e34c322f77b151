"""The answer that is a stored file, with ranges, wherever it is kept."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from unmask.server.jobs.files import StoredFile


class StoredResponse(FileResponse):
    """Starlette's own, which reads through what the store opens: of an object in S3 only the ranges
    that were asked for."""

    def __init__(
        self, stored: StoredFile, *, filename: str | None = None, headers: Mapping[str, str]
    ) -> None:
        super().__init__(
            stored.path,
            headers=headers,
            media_type=stored.note.media_type,
            filename=filename or stored.note.name,
            stat_result=stored.stat,
            content_disposition_type="inline",
        )
        self._stored = stored

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[anyio.AsyncFile[bytes]]:
        file = anyio.wrap_file(await run_in_threadpool(self._stored.open))
        try:
            yield file
        finally:
            with anyio.CancelScope(shield=True):
                await file.aclose()
