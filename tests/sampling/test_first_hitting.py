"""One token a step in random order draws from just the distribution that the model stands for.

The first-hitting sampler of arXiv 2409.02908 is written out here as the slow reference.
"""

import random

import pytest
import torch
from torch import Tensor

from tests.worlds.sampling import JointTable, RowNumbers, plan_for, run

TABLE = torch.tensor([[[0.30, 0.02], [0.01, 0.10]], [[0.03, 0.20], [0.24, 0.10]]])
ROWS = 4000


def _shares(tokens: Tensor) -> Tensor:
    codes = tokens[:, 0] * 4 + tokens[:, 1] * 2 + tokens[:, 2]
    return torch.bincount(codes, minlength=8).view(2, 2, 2) / len(tokens)


def _first_hitting(backbone: JointTable, rows: int) -> Tensor:
    chance = random.Random(0)
    drawn = []
    for _ in range(rows):
        tokens, time, left = [backbone.mask_id] * 3, 1.0, [0, 1, 2]
        while left:
            time *= chance.random() ** (1 / len(left))  # when the next token is hit
            assert 0 <= time <= 1
            place = left.pop(chance.randrange(len(left)))
            prefix = RowNumbers(torch.tensor([0]))
            logits = backbone.full(torch.tensor([tokens]), prefix).logits
            tokens[place] = int(chance.random() < float(logits[0, place].softmax(-1)[1]))
        drawn.append(tokens)
    return torch.tensor(drawn)


def test_the_reference_draws_from_the_joint_distribution() -> None:
    shares = _shares(_first_hitting(JointTable(TABLE), 2000))
    assert (shares - TABLE).abs().sum() / 2 < 0.04


@pytest.mark.parametrize("scheduler", ["random", "halton", "remdm-cap"])
def test_one_token_a_step_draws_from_the_joint_distribution(scheduler: str) -> None:
    plans = [plan_for((1, 3), seed, steps=3, scheduler=scheduler, eta=0.0) for seed in range(ROWS)]
    shares = _shares(run(JointTable(TABLE), plans))
    assert (shares - TABLE).abs().sum() / 2 < 0.03


def test_all_at_once_draws_from_the_product_of_the_marginals() -> None:
    """So that the tests above can fail: this is what a sampler loses that ignores dependence."""
    shares = _shares(
        run(JointTable(TABLE), [plan_for((1, 3), seed, steps=1) for seed in range(ROWS)])
    )
    first, second, third = TABLE.sum((1, 2)), TABLE.sum((0, 2)), TABLE.sum((0, 1))
    product = torch.einsum("i,j,k->ijk", first, second, third)
    assert (shares - product).abs().sum() / 2 < 0.03
    assert (shares - TABLE).abs().sum() / 2 > 0.2
