"""Reading a model into a flat list of calls."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L  # noqa: N812
from keras import ops

from tfq.errors import ModelError, UsageError
from tfq.keras.flat_model import read_flat_model
from tfq.keras.kinds import Kind

pytestmark = pytest.mark.slow


def plain(layer: object, path: str) -> None:
    return None


def names(model: keras.Model) -> list[tuple[str, str, Kind]]:
    return [
        (type(s.operation).__name__, s.path, s.kind) for s in read_flat_model(model, plain).calls
    ]


class TestReadSteps:
    def test_expands_nested_models_and_shares_what_is_shared(self) -> None:
        inside = keras.Input((6,))
        block = keras.Model(inside, L.Dense(6, name="d")(inside), name="block")
        x = keras.Input((6,))
        model = keras.Model(x, block(block(x)))
        flat = read_flat_model(model, plain)
        assert [s.path for s in flat.calls] == ["block/d", "block/d"]
        assert flat.calls[0].operation is flat.calls[1].operation
        assert flat.calls[0].operation is not block.get_layer("d")

    def test_splits_separable_convolutions_and_foreign_activations(self) -> None:
        x = keras.Input((8, 8, 2))
        y = L.SeparableConv2D(4, 3, activation="gelu", name="sep")(x)
        model = keras.Model(x, L.Conv2D(3, 1, activation="relu", name="c")(y))
        assert names(model) == [
            ("DepthwiseConv2D", "sep/depthwise", Kind.WEIGHTED),
            ("Conv2D", "sep/pointwise", Kind.WEIGHTED),
            ("Activation", "sep", Kind.OWN),
            ("Conv2D", "c", Kind.WEIGHTED),
        ]

    def test_sums_of_many_become_sums_of_two(self) -> None:
        x = keras.Input((4,))
        model = keras.Model(x, L.Add(name="sum")([x, L.Dense(4)(x), L.Dense(4)(x)]))
        sums = [
            s for s in read_flat_model(model, plain).calls if type(s.operation).__name__ == "Add"
        ]
        assert [len(s.inputs) for s in sums] == [2, 2]

    def test_traces_subclassed_models(self) -> None:
        class Net(keras.Model):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b = L.Dense(5, name="a"), L.Dense(2, name="b")

            def call(self, x: object) -> object:
                return self.b(ops.relu(self.a(x)))

        net = Net()
        net(np.zeros((1, 3), np.float32))
        kinds = [k for _, _, k in names(net)]
        assert kinds == [Kind.WEIGHTED, Kind.CLAMP, Kind.WEIGHTED]

    def test_a_subclassed_model_with_variables_of_its_own_is_refused(self) -> None:
        class Net(keras.Model):
            def build(self, shape: object) -> None:
                self.w = self.add_weight(shape=(3, 2), name="w")
                self.built = True

            def call(self, x: object) -> object:
                return ops.matmul(x, self.w)

        net = Net()
        net(np.zeros((1, 3), np.float32))
        with pytest.raises(ModelError, match=r"variables outside of its layers: .*w"):
            read_flat_model(net, plain)

    def test_a_model_that_is_not_built_is_refused(self) -> None:
        with pytest.raises(UsageError, match="is not built"):
            read_flat_model(keras.Sequential([L.Dense(3)]), plain)

    def test_layers_that_cannot_be_trained_are_all_named(self) -> None:
        x = keras.Input((4,))
        y = L.Lambda(lambda t: t * 2, name="twice", output_shape=(4,))(x)
        model = keras.Model(x, L.Lambda(lambda t: t + 1, name="one", output_shape=(4,))(y))
        with pytest.raises(UsageError, match=r"(?s)2 layer\(s\).*'twice'.*'one'"):
            read_flat_model(model, plain)
