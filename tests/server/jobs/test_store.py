"""Rows of jobs: claimed by one, ended once, shared between owners, kept within bounds."""

import threading
from collections import Counter

import pytest
from sqlalchemy.exc import DBAPIError

from tests.worlds.jobs import OpenEngine, job_store, new_job
from unmask.errors import NotFoundError, QueueFullError, ReusedKeyError
from unmask.server.jobs.job import Fault, FileNote
from unmask.server.jobs.store import MOST_ATTEMPTS, JobStore, taken

FAULT = Fault(500, "no", "server_error", code="drawing_failed")


@pytest.fixture(name="store")
def _store(open_engine: OpenEngine) -> JobStore:
    return job_store(open_engine())


def test_a_job_is_what_was_asked_for(store: JobStore) -> None:
    job = store.add(new_job(prompt="Räv", key="k"), "job_1")
    assert (job.status, job.progress, job.attempts, job.form) == ("queued", 0, 0, {"prompt": "Räv"})
    assert store.find("job_1", "ann") == job
    assert len(job.secret) >= 43  # 256 bits


def test_a_job_of_others_is_not_there(store: JobStore) -> None:
    store.add(new_job("ann"), "job_1")
    with pytest.raises(NotFoundError):
        store.find("job_1", "bob")
    with pytest.raises(NotFoundError):
        store.find("job_1\0")
    assert store.page("ann", kinds=["images\0"]).jobs == ()
    assert store.page("bob").jobs == ()
    with pytest.raises(NotFoundError):
        store.page("bob", after="job_1")


def test_several_processes_claim_each_job_once(open_engine: OpenEngine) -> None:
    first = job_store(open_engine())
    for number in range(30):
        first.add(new_job(), f"job_{number}")
    claimed: list[str] = []

    def claim(name: str) -> None:
        store = job_store(open_engine())
        while job := store.claim(name):
            claimed.append(job.id)

    threads = [threading.Thread(target=claim, args=(f"runner {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 30


def test_owners_take_turns(store: JobStore) -> None:
    for number in range(6):
        store.add(new_job("ann"), f"ann_{number}")
    for number in range(3):
        store.add(new_job("bob"), f"bob_{number}")
    turns = []
    for _ in range(6):
        job = store.claim("me")
        assert job is not None
        turns.append(job.id)
        store.complete(job.id, "me", {}, [])
    assert turns == ["ann_0", "bob_0", "ann_1", "bob_1", "ann_2", "bob_2"]


def test_what_ended_has_ended(store: JobStore) -> None:
    store.add(new_job(), "job_1", claimed_by="me")
    assert not store.complete("job_1", "another", {}, [])
    assert store.complete("job_1", "me", {"a": 1}, [FileNote("0.png", "image/png", 5)])
    assert not store.complete("job_1", "me", {}, [])
    assert not store.fail("job_1", "me", FAULT)
    assert not store.cancel("job_1")
    assert not store.progress("job_1", "me", 50)
    assert not store.release("job_1", "me", 0, untried=True)
    job = store.find("job_1")
    assert (job.status, job.progress, job.answer) == ("completed", 100, {"a": 1})
    assert job.files == (FileNote("0.png", "image/png", 5),)
    assert job.ended is not None
    assert job.expires == job.ended + 3600


def test_progress_only_grows_and_is_not_whole_before_the_end(store: JobStore) -> None:
    store.add(new_job(), "job_1", claimed_by="me")
    for percent, expected in ((40, 40), (10, 40), (100, 99)):
        assert store.progress("job_1", "me", percent)
        assert store.find("job_1").progress == expected


def test_a_cancelled_job_is_taken_from_its_runner(store: JobStore) -> None:
    store.add(new_job(), "job_1", claimed_by="me")
    assert store.cancel("job_1")
    assert not store.progress("job_1", "me", 50)
    assert not store.complete("job_1", "me", {}, [])
    assert store.find("job_1").status == "cancelled"


def test_a_job_that_two_killed_runners_had_fails(store: JobStore) -> None:
    store.add(new_job(), "job_1")
    for attempt in range(1, MOST_ATTEMPTS + 1):
        job = store.claim("gone")
        assert job is not None
        assert job.attempts == attempt
        assert store.runners() == {"gone"}
        lost = store.recover("gone")
    assert lost == ["job_1"]
    job = store.find("job_1")
    assert job.status == "failed"
    assert job.fault is not None
    assert job.fault.code == "interrupted"


def test_what_is_given_back_untried_may_be_tried_as_often(store: JobStore) -> None:
    store.add(new_job(), "job_1")
    for _ in range(MOST_ATTEMPTS + 3):
        assert store.claim("me") is not None
        assert store.release("job_1", "me", 0, untried=True)
    store.claim("me")
    store.release("job_1", "me", 60, untried=True)
    assert store.claim("me") is None  # it is not due


def test_one_key_is_one_job_however_many_ask_at_once(open_engine: OpenEngine) -> None:
    found = []

    def ask(number: int) -> None:
        store = job_store(open_engine())
        found.append(store.add(new_job(key="k", digest="d"), f"job_{number}").id)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(found).most_common(1)[0][1] == 6
    store = job_store(open_engine())
    with pytest.raises(ReusedKeyError):
        store.add(new_job(key="k", digest="other"), "job_x")
    assert store.add(new_job("bob", key="k", digest="other"), "job_y").id == "job_y"
    assert store.earlier("ann", "another", "d") is None


def test_pages_follow_one_another_in_either_order(store: JobStore) -> None:
    for number in range(5):
        store.add(new_job(), f"job_{number}")
    store.cancel("job_0")
    page = store.page("ann", limit=2)
    assert [job.id for job in page.jobs] == ["job_4", "job_3"]
    assert page.has_more
    rest = store.page("ann", limit=3, after="job_3")
    assert [job.id for job in rest.jobs] == ["job_2", "job_1", "job_0"]
    assert not rest.has_more
    rising = store.page("ann", limit=2, after="job_1", order="asc")
    assert [job.id for job in rising.jobs] == ["job_2", "job_3"]
    assert [job.id for job in store.page("ann", status="cancelled").jobs] == ["job_0"]
    assert store.page("ann", kinds=["video"]).jobs == ()


def test_jobs_that_are_not_done_leave_no_room_for_more(open_engine: OpenEngine) -> None:
    store = job_store(open_engine(), unended_bytes=2 * taken(new_job()) + 100)
    for number in range(2):
        store.add(new_job(), f"job_{number}")
    with pytest.raises(QueueFullError):
        store.check_room(new_job())
    with pytest.raises(QueueFullError):
        store.add(new_job(), "job_2")
    assert store.unended() == {"ann": 2}
    store.cancel("job_0")
    store.add(new_job(), "job_2")


def test_an_error_of_the_database_tells_no_prompt(open_engine: OpenEngine) -> None:
    engine = open_engine()
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE jobs")
    with pytest.raises(DBAPIError, match=r"no such table|does not exist") as failure:
        job_store(engine).release("a secret cat", "me", 0, untried=True)
    assert "a secret cat" not in str(failure.value)
