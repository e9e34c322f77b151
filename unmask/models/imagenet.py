"""The names of the 1,000 ImageNet classes (ILSVRC 2012), in the order of their ids.

The short names are those that torchvision 0.29.2 ships with its classifiers (BSD-3-Clause, a list
of facts); of the two called cardigan, id 264 is here "Cardigan (dog)", for case tells nothing.
"""

from pathlib import Path


def imagenet_labels() -> list[str]:
    """The 1,000 names by id; no two are alike, whatever their case."""
    path = Path(__file__).with_name("imagenet_labels.txt")
    return path.read_text(encoding="utf-8").splitlines()
