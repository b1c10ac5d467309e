"""Archives of Keras, whole, damaged and encrypted."""

import json
import random
import zipfile

import pytest

from tfq.errors import ModelError
from tfq.sources import certainly_untrained, load_source
from tfq.sources.keras_archive import member_names, read_member
from tfq.sources.scan_keras import refuse_keras_file

CONFIG = json.dumps({"class_name": "Sequential", "config": {"name": "net", "layers": []}}).encode()
PACKED = {
    "stored": zipfile.ZIP_STORED,
    "deflated": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.keras"


def write(path, method=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in {"config.json": CONFIG, **members}.items():
            archive.writestr(name, content)


def patch(path, *places):
    """Writes bytes into the local header and at another offset into the central one."""
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02")
    for local, central, value in places:
        content[local : local + len(value)] = value
        content[start + central : start + central + len(value)] = value
    path.write_bytes(content)


def spoil(path, name):
    """Flips the first byte of a member as it is packed."""
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo(name).header_offset + 30 + len(name)
    content = bytearray(path.read_bytes())
    content[start] ^= 0xFF
    path.write_bytes(content)


DAMAGES = {
    "its data": lambda path: spoil(path, "config.json"),
    "encrypted": lambda path: patch(path, (6, 8, b"\x01")),
    "packed by an unknown method": lambda path: patch(path, (8, 10, b"\x61")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_configuration_is_one_error_everywhere(path, damage):
    write(path)
    DAMAGES[damage](path)
    for read in (
        certainly_untrained,
        load_source,
        lambda p: refuse_keras_file(str(p), str(p)),
    ):
        with pytest.raises(ModelError, match=r"Cannot read .*m\.keras: config\.json .*Copy it"):
            read(path)


@pytest.mark.parametrize("method", PACKED)
def test_bytes_that_flip_are_read_or_one_error(path, method):
    write(path, PACKED[method], **{"model.weights.h5": bytes(300)})
    whole = path.read_bytes()
    rng, refused = random.Random(0), 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 2, 8))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            for name in member_names(str(path), "it"):
                read_member(str(path), name, "it")
        except ModelError:
            refused += 1
    assert refused > 30


def test_weights_that_cannot_be_read_are_not_passed_over(path):
    """Keras reads them from the archive in pieces, and then nobody compares the checksum."""
    write(path, zipfile.ZIP_STORED, **{"model.weights.h5": bytes(300)})
    refuse_keras_file(str(path), "m.keras")
    spoil(path, "model.weights.h5")
    with pytest.raises(ModelError, match=r"Cannot read m\.keras: model\.weights\.h5 .*Bad CRC"):
        refuse_keras_file(str(path), "m.keras")


def test_what_is_no_archive_has_no_members(path):
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert member_names(str(path), "it") == []
    assert read_member(str(path), "config.json", "it") is None
    assert not certainly_untrained(path)
    write(path)
    assert read_member(str(path), "metadata.json", "it") is None
    assert read_member(str(path), "config.json", "it") == CONFIG
    assert certainly_untrained(path)
