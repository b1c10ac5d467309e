import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfq.data.crc32c import crc32c, masked_crc32c


def by_definition(data):
    """Bit by bit: division by the Castagnoli polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720, B.4.
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_published_values(data, expected):
    assert crc32c(data) == expected


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=5000))
def test_against_the_definition(data):
    assert crc32c(data) == by_definition(data)


@pytest.mark.parametrize("size", [255, 256, 257, 4096, 20_001, 65_537])
def test_long_data(size):
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(data) == by_definition(data)


def test_masked():
    # The length 8 as TensorFlow's record writer stores it.
    crc = crc32c((8).to_bytes(8, "little"))
    assert masked_crc32c((8).to_bytes(8, "little")) == (
        ((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8
    ) % (1 << 32)
