"""What a metric kept of the blocks, joined as an evaluation joins it."""

from collections.abc import Mapping, Sequence

import numpy as np

from tfq.evaluate.store import Store


def joined(blocks: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """`blocks` in the order of the samples, as one."""
    with Store() as store:
        for block in blocks:
            for name, rows in block.items():
                store.add(name, rows)
        return {name: store.read(name) for name in store.names()}
