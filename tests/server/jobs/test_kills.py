"""Nothing that was accepted is lost, and nothing ends twice, whenever a process is killed: one that
serves alone, and one of two replicas that share a database.

``make kills`` kills more often.
"""

import os
import random
import time
from collections import Counter
from typing import Any

import httpx2
import pytest
from sqlalchemy import Engine

from tests.worlds.jobs import KilledServer, OpenEngine
from tests.worlds.native import PROMPT

KILLS = int(os.environ.get("KILLS", "8"))
URL = "/v1/images/generations"
CLIP = {"prompt": PROMPT, "frames": 5, "steps": 4, "output_format": "webp"}
ENDED = "NEW.status IN ('completed', 'failed', 'cancelled')"
# What the rows of jobs went through is noted by the database itself.
TRIGGERS = {
    "sqlite": (
        f"CREATE TRIGGER note_ends AFTER UPDATE OF status ON jobs WHEN {ENDED} BEGIN"
        " INSERT INTO ends VALUES (NEW.id); END",
        "CREATE TRIGGER note_claims AFTER UPDATE OF status ON jobs"
        " WHEN NEW.status = 'in_progress' BEGIN"
        " INSERT INTO claims VALUES (NEW.id, NEW.attempts); END",
    ),
    "postgresql": (
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF {ENDED} THEN INSERT INTO ends VALUES (NEW.id); END IF;"
        " IF NEW.status = 'in_progress' THEN"
        " INSERT INTO claims VALUES (NEW.id, NEW.attempts); END IF;"
        " RETURN NEW; END $$",
        "CREATE TRIGGER note_all AFTER UPDATE OF status ON jobs"
        " FOR EACH ROW EXECUTE FUNCTION note()",
    ),
}


def _note_all(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE ends (id TEXT)")
        connection.exec_driver_sql("CREATE TABLE claims (id TEXT, attempt INTEGER)")
        for trigger in TRIGGERS[engine.dialect.name]:
            connection.exec_driver_sql(trigger)


def _ask_until(
    servers: list[KilledServer], moment: float, number: int
) -> tuple[dict[str, str], int]:
    """Send jobs, to each server by turns, until the moment to kill; those that were accepted, by
    what was asked, and the number of the last that was sent."""
    accepted = {}
    with httpx2.Client(timeout=5) as client:
        while time.monotonic() < moment:
            url = servers[number % len(servers)].url
            if number % 5 == 4:
                video = {**CLIP, "seed": number}
                answer = client.post(f"{url}/v1/videos", json=video)
                if answer.status_code == 200:
                    accepted[f"clip {number}"] = answer.json()["id"].replace("video_", "job_")
                number += 1
                continue
            prompt = f"cat {number}"
            body = {"prompt": prompt, "seed": number, "steps": 3 + number % 7}
            headers = {"prefer": "respond-async", "idempotency-key": str(number)}
            answer = client.post(url + URL, json=body, headers=headers)
            if answer.status_code == 202:
                accepted[prompt] = answer.json()["id"]
            number += 1
            time.sleep(max(0.0, min(0.03, moment - time.monotonic())))
    return accepted, number


@pytest.mark.slow
def test_nothing_that_was_accepted_is_lost_and_nothing_ends_twice(
    shared: dict[str, Any], open_engine: OpenEngine
) -> None:
    chance, engine = random.Random(KILLS), open_engine()
    _note_all(engine)
    replicas = 1 if engine.dialect.name == "sqlite" else 2
    servers = [KilledServer(shared) for _ in range(replicas)]
    accepted, number = dict[str, str](), 0
    for server in servers[1:]:
        server.start()
    killed = servers[0]
    for _ in range(KILLS):
        killed.start()
        if chance.random() < 0.75:  # else it is killed while it takes up what was there
            killed.wait(lambda client: client.get("/readyz").status_code == 200)
        asked, number = _ask_until(servers, time.monotonic() + chance.uniform(0, 0.5), number)
        accepted |= asked
        time.sleep(chance.uniform(0, 0.05))
        killed = chance.choice(servers)
        killed.kill()
    killed.start()
    servers[0].wait(
        lambda client: (
            not any(
                client.get("/v1/jobs", params={"status": status}).json()["data"]
                for status in ("queued", "in_progress")
            )
        )
    )
    statuses = Counter[str]()
    with httpx2.Client(base_url=servers[-1].url) as client:
        for prompt, job_id in accepted.items():
            job = client.get(f"/v1/jobs/{job_id}").json()
            statuses[job["status"]] += 1
            if job["status"] == "failed":  # it was being drawn at two kills
                assert job["error"]["code"] == "interrupted"
                continue
            assert job["status"] == "completed", job
            seed = int(prompt.split()[1])
            if prompt.startswith("clip"):
                path = f"/v1/videos/{job['result']['id']}/content"
                drawn = client.post("/v1/videos/sync", json={**CLIP, "seed": seed})
                assert client.get(path).content == drawn.content
                continue
            body = {"prompt": prompt, "seed": seed, "steps": 3 + seed % 7}
            kept = client.get(job["result"]["data"][0]["url"])
            assert kept.status_code == 200
            if seed % 10 == 0:
                again = client.post(URL, json={**body, "response_format": "url"}).json()
                assert client.get(again["data"][0]["url"]).content == kept.content
    for server in servers:
        server.kill()
    with engine.connect() as connection:
        ends = Counter(connection.exec_driver_sql("SELECT id FROM ends").scalars())
        claims = Counter(connection.exec_driver_sql("SELECT id, attempt FROM claims").all())
    assert any(asked.startswith("clip") for asked in accepted)
    assert set(accepted.values()) <= set(ends)
    assert max(ends.values()) == 1
    assert max(claims.values()) == 1  # no attempt was two servers'
    print(f"{KILLS} kills of {replicas}, {len(accepted)} accepted: {dict(statuses)}")
