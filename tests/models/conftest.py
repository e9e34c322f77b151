from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(params=[2, 3], ids=lambda count: f"{count} threads")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Three share numbers out so that vectors end within a row's."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
