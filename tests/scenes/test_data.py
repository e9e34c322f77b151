import pytest

from unmask.errors import DataError
from unmask.scenes.data import DataConfig, open_bank


def test_a_missing_archive_is_named() -> None:
    with pytest.raises(DataError, match=r"absent.zip: no such sprite archive"):
        open_bank(DataConfig("scenes", path="absent.zip"))
