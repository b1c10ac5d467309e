"""Where quantizers stand."""

from __future__ import annotations

import keras
import pytest
from keras import layers as L  # noqa: N812
from keras import ops

from tfq.keras.flat_model import FlatModel, read_flat_model
from tfq.keras.placement import Placement, place

pytestmark = pytest.mark.slow


def placed(inputs: object, outputs: object) -> tuple[FlatModel, Placement]:
    flat = read_flat_model(keras.Model(inputs, outputs), lambda layer, path: None)
    return flat, place(flat, 8)


def quantized(flat: FlatModel, placement: Placement) -> dict[str, bool]:
    """By path: whether the call's output passes a trained quantizer."""
    return {s.path: s.outputs[0] in placement.marked for s in flat.calls}


class TestPlace:
    def test_a_convolution_takes_in_normalization_and_relu(self) -> None:
        x = keras.Input((8, 8, 3))
        y = L.Conv2D(4, 3, name="c")(x)
        y = L.ReLU(name="r")(L.BatchNormalization(name="n")(y))
        flat, found = placed(x, y)
        assert quantized(flat, found) == {"c": False, "n": False, "r": True}

    def test_what_others_read_is_not_fused(self) -> None:
        x = keras.Input((8, 8, 3))
        y = L.Conv2D(4, 3, name="c")(x)
        z = L.ReLU(name="r")(y)
        flat, found = placed(x, [y, z])
        assert quantized(flat, found) == {"c": True, "r": True}

    def test_a_leaky_relu_is_an_op_of_its_own(self) -> None:
        x = keras.Input((8, 8, 3))
        flat, found = placed(x, L.LeakyReLU(name="r")(L.Conv2D(4, 3, name="c")(x)))
        assert quantized(flat, found) == {"c": True, "r": True}

    def test_sums_take_in_the_relu_after_them(self) -> None:
        x = keras.Input((4,))
        y = ops.relu(L.Add(name="sum")([x, L.Dense(4, name="d")(x)]))
        flat, found = placed(x, y)
        assert quantized(flat, found)["sum"] is False

    def test_concatenated_tensors_share_one_quantizer(self) -> None:
        x = keras.Input((8, 8, 3))
        a, b = L.Conv2D(4, 1, name="a")(x), L.Conv2D(4, 1, name="b")(x)
        flat, found = placed(x, L.Concatenate(name="cat")([a, L.MaxPooling2D(1, name="m")(b)]))
        by_path = {s.path: s.outputs[0] for s in flat.calls}
        assert found.groups[by_path["a"]] is found.groups[by_path["b"]]
        assert quantized(flat, found) == {"a": True, "b": True, "m": False, "cat": False}

    def test_averages_are_rounded_again(self) -> None:
        x = keras.Input((8, 8, 3))
        flat, found = placed(x, L.AveragePooling2D(2, name="p")(L.Conv2D(4, 1, name="c")(x)))
        by_path = {s.path: s.outputs[0] for s in flat.calls}
        assert found.groups[by_path["c"]] is found.groups[by_path["p"]]
        assert quantized(flat, found) == {"c": True, "p": True}

    def test_a_fixed_output_is_not_trained_but_requantized_where_it_meets_others(self) -> None:
        x = keras.Input((4,))
        gate = L.Dense(4, activation="sigmoid", name="gate")(x)
        y = L.Concatenate(name="cat")([gate, L.Dense(4, name="d")(x)])
        flat, found = placed(x, y)
        last = {s.path: s.outputs[0] for s in flat.calls}
        assert found.fixed[last["gate"]] == (1 / 256, -128)
        assert last["cat"] in found.marked

    def test_dropout_is_no_op(self) -> None:
        x = keras.Input((4,))
        y = L.Dense(2, name="e")(L.Dropout(0.5, name="drop")(L.Dense(4, name="d")(x)))
        flat, found = placed(x, y)
        assert quantized(flat, found) == {"d": True, "drop": False, "e": True}
