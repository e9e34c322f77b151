"""What a test asks of the processor."""

import pytest
import torch

vnni = pytest.mark.skipif(
    not torch.cpu._is_vnni_supported(), reason="this CPU does not multiply eight bits (VNNI)"
)
