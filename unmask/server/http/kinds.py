"""The kinds of jobs, by name. A new one is a file with a ``Kind``, and a line here."""

from unmask.server.engine.face import EngineFace
from unmask.server.http.image_jobs import ImageJobs
from unmask.server.http.orders import IMAGE_KINDS
from unmask.server.http.video_jobs import VideoJobs
from unmask.server.http.video_orders import VIDEO_KINDS
from unmask.server.jobs.kinds import Kind
from unmask.settings import Settings


def make_kinds(engine: EngineFace, settings: Settings) -> dict[str, Kind]:
    """All kinds, drawing with the engine."""
    images = {kind.name: ImageJobs(engine, settings, kind) for kind in IMAGE_KINDS}
    videos = {kind.name: VideoJobs(engine, settings, kind) for kind in VIDEO_KINDS}
    return {**images, **videos}
