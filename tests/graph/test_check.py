import random
import sys

import numpy as np
import pytest

from tfq.errors import ModelError
from tfq.graph import check
from tfq.graph.check import check_runs
from tfq.graph.model import Graph, Model, Op, Signature, Tensor, options_type


def small_model() -> Model:
    """A dense layer and a reshape, named as the converter names them."""
    rng = np.random.default_rng(0)
    x = Tensor("x:0", (1, 6), "float32")
    w = Tensor("w", (8, 6), "float32", rng.normal(size=(8, 6)).astype(np.float32))
    b = Tensor("b", (8,), "float32", np.zeros(8, np.float32))
    h = Tensor("model/dense/Relu", (1, 8), "float32")
    target = Tensor("shape", (3,), "int32", np.array([1, 2, 4], np.int32))
    y = Tensor("y:0", (1, 2, 4), "float32")
    dense = options_type("FullyConnectedOptions")()
    dense.fusedActivationFunction = 1
    ops = [
        Op("FULLY_CONNECTED", [x, w, b], [h], dense),
        Op("RESHAPE", [h, target], [y], options_type("ReshapeOptions")()),
    ]
    return Model([Graph("main", ops, [x], [y])], [Signature("serving_default", {"x": x}, {"y": y})])


@pytest.fixture(scope="module")
def content() -> bytes:
    return small_model().to_bytes()


def test_a_sound_model_is_parsed_and_returned(content):
    assert [op.name for op in check_runs(content).main.ops] == ["FULLY_CONNECTED", "RESHAPE"]


def test_empty_and_foreign_bytes_are_refused():
    for data in (b"", b"PK\x03\x04" + bytes(100), bytes(1000)):
        with pytest.raises(ModelError, match=r"not a .tflite file"):
            check_runs(data, where="m.tflite")


def test_every_truncation_is_refused_or_runs(content):
    refused = 0
    for end in range(0, len(content), max(1, len(content) // 150)):
        try:
            check_runs(content[:end], time_limit=20)
        except ModelError:
            refused += 1
    assert refused >= 100


@pytest.mark.parametrize("flips", [1, 3, 40])
def test_flipped_bits_are_refused_or_run(content, flips):
    """Anything but ModelError, a crash of this process among it, fails the test."""
    rng = random.Random(flips)
    refused = 0
    for _ in range(40):  # tools/fuzz has thousands.
        damaged = bytearray(content)
        for _ in range(flips):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        try:
            check_runs(bytes(damaged), time_limit=20)
        except ModelError:
            refused += 1
    assert refused >= 8


def test_random_bytes_with_the_right_identifier_are_refused():
    rng = random.Random(7)
    for _ in range(40):
        with pytest.raises(ModelError):
            check_runs(rng.randbytes(4) + b"TFL3" + rng.randbytes(600), time_limit=20)


def test_an_op_that_reads_what_nothing_computes_is_named():
    model = small_model()
    model.main.ops.reverse()
    with pytest.raises(ModelError, match=r"RESHAPE reads 'model/dense/Relu' before"):
        check_runs(model.to_bytes())


@pytest.mark.parametrize("end", ["inputs", "outputs"])
def test_a_signature_that_names_something_inside_is_damage(end):
    model = small_model()
    inside = model.main.ops[0].outputs[0]
    getattr(model.signatures[0], end)["z"] = inside
    with pytest.raises(ModelError, match=r"calls 'z' what is no input or output .*dense/Relu"):
        check_runs(model.to_bytes())


def test_a_refusal_of_the_interpreter_is_passed_on():
    model = small_model()
    model.main.ops[0].version = 99
    with pytest.raises(ModelError, match=r"does not run: LiteRT"):
        check_runs(model.to_bytes())


def with_custom(code: str) -> bytes:
    """`small_model` and a custom op behind it."""
    model = small_model()
    made = Tensor("made", (1, 2, 4), "float32")
    y = model.main.outputs[0]
    model.main.ops.append(Op("CUSTOM", [y], [made], custom_code=code))
    model.main.outputs = [made]
    model.signatures = []
    return model.to_bytes()


@pytest.mark.parametrize("code", ["Mine", "FlexErf"])
def test_of_ops_that_litert_lacks_only_the_structure_is_checked(code):
    data = with_custom(code)
    assert check_runs(data).main.ops[-1].custom_code == code
    with pytest.raises(check.UnresolvedOpError, match=code):
        check.run_in_child(data, where="it")


def test_custom_ops_that_litert_has_are_run():
    """This one compares tensors, and reads past the end of the list of them."""
    with pytest.raises(ModelError, match=r"crashes the LiteRT interpreter"):
        check_runs(with_custom("NumericVerify"))


def test_a_crash_of_the_child_is_an_error_here(content, monkeypatch):
    import os
    import signal

    def crash(*_):
        os.kill(os.getpid(), signal.SIGSEGV)

    if "tensorflow" in sys.modules:
        pytest.skip("the child is a new process then, which a patch does not reach")
    monkeypatch.setattr(check, "run_once", crash)
    with pytest.raises(ModelError, match=r"crashes the LiteRT interpreter .SIGSEGV"):
        check_runs(content)


def test_an_endless_run_is_stopped(content, monkeypatch):
    import time

    if "tensorflow" in sys.modules:
        pytest.skip("the child is a new process then, which a patch does not reach")
    monkeypatch.setattr(check, "run_once", lambda *_: time.sleep(60))
    with pytest.raises(ModelError, match=r"does not finish one run in 0.2 s"):
        check_runs(content, time_limit=0.2)


def test_without_a_safe_fork_a_new_process_does_the_same(content, monkeypatch):
    monkeypatch.setattr(check.threading, "active_count", lambda: 2)
    check_runs(content)
    model = small_model()
    model.main.ops[0].version = 99
    with pytest.raises(ModelError, match=r"does not run: LiteRT"):
        check_runs(model.to_bytes())
