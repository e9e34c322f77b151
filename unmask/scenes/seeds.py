"""Seeds for the batches and steps of a run."""

# Streams: pictures, steps of training, how objects are broken, and what of a clip is masked.
DATA, LOOP, BREAKS, MASKS = range(4)
HELD_OUT = 1_000_003  # the seed of pictures that no training meets


def batch_seed(seed: int, index: int, stream: int = DATA) -> int:
    """The 32-bit seed of batch or step ``index`` in a run with ``seed``.

    torch's CPU generator takes no notice of the bits above, so both must be folded into these.
    Other seeds (up to 100) and streams start more than nine million steps away in that ring, those
    of ``BREAKS`` more than three million.
    """
    return (index + seed * 2_654_435_761 + stream * 374_761_393) % 2**32
