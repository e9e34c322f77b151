"""The simulation of capacity obeys what holds for every server, and for queues that are known."""

import pytest

from benchmarks.simulation import Machine, Scaling, Simulation, poisson
from unmask.server.engine.costs import Cost
from unmask.server.replicas.balance import ByQueuedSeconds

COST = Cost(steps=4, tokens=64, passes=8.0)
FOUR = Cost(images=4, steps=4, tokens=64, passes=8.0)
MACHINE = Machine(step=0.01, work=1e-4, encode=0.001, decode=0.005, answer=0.002)
SECONDS = 100.0


@pytest.mark.parametrize("cost", [COST, FOUR])
@pytest.mark.parametrize("load", [0.5, 2.0])
def test_every_request_is_answered_or_refused(cost: Cost, load: float) -> None:
    rate = load * MACHINE.most(cost) / cost.images
    outcome = Simulation(MACHINE).run(poisson(rate, 50.0, cost))
    assert outcome.arrived == len(outcome.latencies) + outcome.refused > 0
    assert outcome.left == 0
    assert outcome.images == cost.images * len(outcome.latencies)
    assert (outcome.refused > 0) == (load > 1)
    stopped = Simulation(MACHINE, until=25.0).run(poisson(rate, 50.0, cost))
    assert stopped.arrived == len(stopped.latencies) + stopped.refused + stopped.left
    assert 0 < stopped.arrived < outcome.arrived


def test_one_alone_takes_what_its_parts_take() -> None:
    [latency] = Simulation(MACHINE).run([(1.0, COST)]).latencies
    assert latency == pytest.approx(MACHINE.alone(COST))
    assert latency == pytest.approx(0.001 + 4 * (0.01 + 1e-4 * 128) + 0.005 + 0.002)


def test_utilisation_is_throughput_times_service() -> None:
    one_by_one = Machine(step=0.01, work=1e-4, decode=0.005, max_rows=1, step_rows=1)
    outcome = Simulation(one_by_one).run(poisson(6.0, SECONDS, COST))
    served = len(outcome.latencies) / outcome.ended
    assert outcome.utilisation == pytest.approx(served * one_by_one.alone(COST), rel=1e-6)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_the_wait_is_that_of_the_queue_with_one_server_and_one_service_time(load: float) -> None:
    machine = Machine(step=0.025, work=0.0, max_rows=1, step_rows=1, max_queue=10**6)
    outcome = Simulation(machine).run(poisson(load / 0.1, 12 * SECONDS, COST))
    wait = sum(outcome.latencies) / len(outcome.latencies) - 0.1
    assert wait == pytest.approx(load * 0.1 / (2 * (1 - load)), rel=0.1)  # Pollaczek, Khinchine


def test_waits_grow_with_load_and_no_server_gives_more_than_it_can() -> None:
    most = MACHINE.most(COST)
    outcomes = [
        Simulation(MACHINE).run(poisson(load * most, SECONDS, COST)) for load in (0.3, 0.7, 0.95, 2)
    ]
    late = [outcome.percentile(0.95) for outcome in outcomes]
    assert late == sorted(late)
    assert late[-1] > 3 * late[0]
    assert outcomes[-1].images / outcomes[-1].ended == pytest.approx(most, rel=0.02)
    assert outcomes[-1].utilisation == pytest.approx(1.0, rel=0.01)


def test_two_replicas_do_the_work_of_two() -> None:
    rate = 1.5 * MACHINE.most(COST)
    two = Simulation(MACHINE, replicas=2).run(poisson(rate, SECONDS, COST))
    assert two.refused == 0
    assert two.images / two.ended == pytest.approx(rate, rel=0.1)
    assert two.replica_seconds == pytest.approx(2 * two.ended)
    assert 0.6 < two.utilisation < 0.9


def test_what_comes_together_does_not_go_to_one_replica() -> None:
    """Between two times that replicas tell of themselves several requests come."""
    machine = Machine(step=0.0, work=2.4e-4, decode=0.01, answer=0.01)
    cost = Cost(steps=12, tokens=64, passes=24.0)
    rate = 0.68 * 9 * machine.most(cost)
    nine = Simulation(machine, replicas=9).run(poisson(rate, SECONDS, cost))
    assert nine.percentile(0.95) < 2.5 * machine.alone(cost)


def test_replicas_come_with_what_waits_and_go_when_it_is_gone() -> None:
    scaling = Scaling(most=4, policy=ByQueuedSeconds(1.0), up_delay=5.0, down_delay=20.0, start=5.0)
    rate = 2.5 * MACHINE.most(COST)
    rush = list(poisson(rate, SECONDS, COST))
    quiet = [(SECONDS + when, cost) for when, cost in poisson(0.5, SECONDS, COST, seed=1)]
    outcome = Simulation(MACHINE, scaling=scaling).run(rush + quiet)
    needed = [number for when, number in outcome.replicas if 40 < when < SECONDS]
    assert {3, 4} >= set(needed)  # none of them goes while all are needed
    assert max(number for _, number in outcome.replicas) == 4
    assert outcome.replicas[-1][1] == 1
    assert outcome.left == 0
    assert outcome.arrived == len(outcome.latencies) + outcome.refused
    alone = Simulation(MACHINE).run(rush)
    assert outcome.refused < alone.refused / 4
    assert outcome.replica_seconds < 0.8 * 4 * outcome.ended
