"""Nothing that was accepted is lost, and nothing ends twice, whenever the process is killed.

``make kills`` kills more often.
"""

import os
import random
import sqlite3
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from tests.worlds.jobs import KilledServer
from unmask.server.state.database import FILE_NAME, open_folder

KILLS = int(os.environ.get("KILLS", "8"))
URL = "/v1/images/generations"
TRIGGER = """
CREATE TABLE ends (id TEXT, status TEXT);
CREATE TRIGGER note_ends AFTER UPDATE OF status ON jobs
WHEN NEW.status IN ('completed', 'failed', 'cancelled') BEGIN
  INSERT INTO ends VALUES (NEW.id, NEW.status);
END;
"""


def _ask_until(server: KilledServer, moment: float, number: int) -> tuple[dict[str, str], int]:
    """Send jobs until the moment to kill; those that were accepted, by what was asked, and the
    number of the last that was sent."""
    accepted = {}
    with httpx2.Client(base_url=server.url, timeout=5) as client:
        while time.monotonic() < moment:
            prompt = f"cat {number}"
            body = {"prompt": prompt, "seed": number, "steps": 3 + number % 7}
            headers = {"prefer": "respond-async", "idempotency-key": str(number)}
            answer = client.post(URL, json=body, headers=headers)
            if answer.status_code == 202:
                accepted[prompt] = answer.json()["id"]
            number += 1
            time.sleep(max(0.0, min(0.03, moment - time.monotonic())))
    return accepted, number


@pytest.mark.slow
def test_nothing_that_was_accepted_is_lost_and_nothing_ends_twice(tmp_path: Path) -> None:
    chance = random.Random(KILLS)
    open_folder(tmp_path).dispose()
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.executescript(TRIGGER)
    server, accepted, number = KilledServer(tmp_path), dict[str, str](), 0
    for _ in range(KILLS):
        server.start()
        if chance.random() < 0.75:  # else it is killed while it takes up what was there
            server.wait(lambda client: client.get("/readyz").status_code == 200)
        asked, number = _ask_until(server, time.monotonic() + chance.uniform(0, 0.5), number)
        accepted |= asked
        time.sleep(chance.uniform(0, 0.05))
        server.kill()
    server.start()
    server.wait(
        lambda client: (
            not any(
                client.get("/v1/jobs", params={"status": status}).json()["data"]
                for status in ("queued", "in_progress")
            )
        )
    )
    statuses = Counter[str]()
    with httpx2.Client(base_url=server.url) as client:
        for prompt, job_id in accepted.items():
            job = client.get(f"/v1/jobs/{job_id}").json()
            statuses[job["status"]] += 1
            if job["status"] == "failed":  # it was being drawn at two kills
                assert job["error"]["code"] == "interrupted"
                continue
            assert job["status"] == "completed", job
            seed = int(prompt.split()[1])
            body = {"prompt": prompt, "seed": seed, "steps": 3 + seed % 7}
            kept = client.get(job["result"]["data"][0]["url"])
            assert kept.status_code == 200
            if seed % 10 == 0:
                again = client.post(URL, json={**body, "response_format": "url"}).json()
                assert client.get(again["data"][0]["url"]).content == kept.content
    server.kill()
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        ends = Counter(row[0] for row in database.execute("SELECT id FROM ends"))
    assert accepted
    assert set(accepted.values()) <= set(ends)
    assert max(ends.values()) == 1
    print(f"{KILLS} kills, {len(accepted)} accepted: {dict(statuses)}")
