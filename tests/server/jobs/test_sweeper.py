"""The sweeper and the files: what ended goes when it must, and what is needed stays."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from tests.worlds.jobs import job_store, new_job
from unmask.errors import DrawingError, NotFoundError
from unmask.server.jobs.files import FolderFiles
from unmask.server.jobs.kinds import Result, ResultFile
from unmask.server.jobs.store import ROW_BYTES, JobStore
from unmask.server.jobs.sweeper import Sweeper
from unmask.server.state.database import open_folder
from unmask.server.state.presence import FilePresence

SIZE = 10_000


class World:
    """A store of at most ``most`` results."""

    def __init__(self, folder: Path, most: float = 2, lifetime: float = 3600) -> None:
        self.store: JobStore = job_store(open_folder(folder), lifetime)
        self.files, self.presence = FolderFiles(folder / "files"), FilePresence(folder / "runners")
        self.bound = int(most * (SIZE + 2 * ROW_BYTES))
        self.sweeper = Sweeper(self.store, self.files, self.presence, self.bound)

    def draw(self, job_id: str, size: int = SIZE) -> None:
        job = self.store.add(new_job(), job_id, claimed_by="me")
        self.files.keep_uploads(job_id, {"image": b"x" * 10})
        result = Result({}, (ResultFile("0.png", "image/png", b"y" * size),))
        assert asyncio.run(self.sweeper.keep(job, "me", result))

    def on_disk(self) -> set[str]:
        return {path.name for path in self.files.folder.iterdir()}


def test_a_result_is_kept_and_what_it_was_drawn_from_is_not(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.draw("job_1")
    job = world.store.find("job_1")
    found = world.files.result(job, "0.png")
    assert found is not None
    with found.open() as file:
        assert file.read() == b"y" * SIZE
    assert world.files.result(job, "../../keys.json") is None
    assert world.files.uploads("job_1") == {}
    assert job.bytes >= SIZE


def test_the_oldest_results_make_room_before_a_new_one_is_written(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(5):
        world.draw(f"job_{number}")
        assert world.store.bytes() <= world.bound
        held = sum(file.stat().st_size for file in world.files.folder.rglob("*.png"))
        assert held <= world.bound
    assert "job_4" in world.on_disk()
    assert "job_0" not in world.on_disk()
    with pytest.raises(NotFoundError):
        world.store.find("job_0")


def test_a_result_that_never_fits_is_an_error_and_what_is_not_done_stays(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.draw("job_0")
    world.store.add(new_job(), "waits")
    with pytest.raises(DrawingError, match="no room"):
        world.draw("job_1", size=world.bound)
    assert world.store.find("job_0").status == "completed"
    assert "job_0" in world.on_disk()
    assert world.store.find("waits").status == "queued"


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    world = World(tmp_path, lifetime=0.05)
    world.draw("job_1")
    world.store.add(new_job(), "waits")
    time.sleep(0.06)
    world.sweeper.sweep()
    assert world.on_disk() == set()
    assert world.store.find("waits").status == "queued"


def test_jobs_of_a_runner_that_is_gone_are_taken_up_and_those_of_a_living_one_are_not(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    other = FilePresence(tmp_path / "runners")
    world.store.add(new_job(), "job_1", claimed_by=other.runner)
    world.store.add(new_job(), "job_2", claimed_by=world.presence.runner)
    world.sweeper.sweep()
    assert world.store.find("job_1").status == "in_progress"
    other.close()
    assert world.sweeper.sweep() == []
    assert world.store.find("job_1").status == "queued"
    assert world.store.find("job_2").status == "in_progress"


def test_what_a_killed_process_left_is_tidied(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.draw("job_1")
    world.files.keep_uploads("no_row", {"image": b"x"})
    world.files.keep_uploads("job_1", {"image": b"x"})
    world.store.add(new_job(), "job_2")
    world.files.keep_uploads("job_2", {"image": b"x"})
    world.store.cancel("job_2")
    world.store.add(new_job(), "job_3")
    world.files.keep_uploads("job_3", {"image": b"x"})
    world.files.keep_uploads("young", {"image": b"x"})
    for name in ("no_row", "job_1", "job_2", "job_3"):
        os.utime(world.files.folder / name, (1, 1))
    world.sweeper.tidy()
    assert world.on_disk() == {"job_1", "job_3", "young"}
    assert world.files.uploads("job_1") == {}
    assert world.files.uploads("job_3") == {"image": b"x"}
