"""Pruning and clustering through quantization-aware training, into the integer file."""

import gzip

import keras
import numpy as np
import pytest
from small_nets import compiled, digits, scrambled, tower

import tfq
from tfq.errors import UsageError
from tfq.graph.model import Model
from tfq.keras.clustering import cluster, keep_clusters
from tfq.keras.pruning import keep_sparsity, prune, pruning_report, remove_channels
from tfq.keras.pruning.kernels import find_kernels
from tfq.keras.quantizers import get_weight_quantizer

pytestmark = pytest.mark.slow

KERNELS = ("conv0", "conv1", "hidden", "scores")


def fit(model: keras.Model, *callbacks, epochs: int = 1) -> None:
    x, y = digits()
    compiled(model).fit(
        x[:512], y[:512], batch_size=32, epochs=epochs, verbose=0, callbacks=list(callbacks)
    )


def stored(file: bytes) -> list[np.ndarray]:
    """The weights of convolutions and dense layers, as [window, in, out] or [in, out]."""
    ops = [o for o in Model.from_bytes(file).main.ops if o.name in ("CONV_2D", "FULLY_CONNECTED")]
    return [np.moveaxis(o.input(1).values(), 0, -1) for o in ops]


@pytest.mark.parametrize("scheme", ["int8", "w4a8", "ternary"])
def test_zeros_are_exact_in_the_file(scheme: str) -> None:
    x, _ = digits()
    model = compiled(tower())
    fit(model, prune(model, 0.7))
    zero = [model.get_layer(n).kernel.numpy() == 0 for n in KERNELS]
    quantized = tfq.keras.quantize(model, scheme, data=x[:64])
    fit(quantized, keep_sparsity(quantized))
    # By order: the last layer's name goes to the quantizer of its output.
    for kernel, mask in zip(find_kernels(quantized), zero, strict=True):
        np.testing.assert_array_equal(kernel.values() == 0, mask)
    file = tfq.convert_model(quantized, x[:64]).model
    for integers, mask in zip(stored(file), zero, strict=True):
        assert (integers.reshape(mask.shape)[mask] == 0).all()
    report = pruning_report(file)
    counts = [int(mask.sum()) for mask in zero]
    assert all(r["zeros"] >= n for r, n in zip(report["layers"], counts, strict=True))
    assert report["gzip_bytes"] < report["bytes"]


def test_a_quantized_model_is_pruned_while_it_trains() -> None:
    x, _ = digits()
    quantized = tfq.keras.quantize(scrambled(tower()), data=x[:64])
    fit(quantized, prune(quantized, 0.5, "2:4"))
    rows = pruning_report(tfq.convert_model(quantized, x[:64]).model)["layers"]
    assert [r["patterns"][:1] for r in rows] == [[], ["2:4"], ["2:4"], ["2:4"]]


def test_binary_weights_are_not_pruned() -> None:
    quantized = tfq.keras.quantize(tower(), "binary", data=digits()[0][:64])
    with pytest.raises(UsageError, match="conv1, hidden"):
        prune(quantized, 0.5)
    with pytest.raises(UsageError, match="Channels are removed before"):
        remove_channels(quantized)


def test_clusters_are_kept_into_the_file() -> None:
    x, _ = digits()
    model = compiled(tower())
    fit(model, prune(model, 0.5))
    fit(model, cluster(model, 8, preserve_sparsity=True))
    weights = get_weight_quantizer("minmax", bits=8)
    weights = type(weights)(bits=8, per_channel=False)
    quantized = tfq.keras.quantize(model, weights=weights, data=x[:64])
    before = quantized.get_layer("hidden").kernel.numpy()
    fit(quantized, keep_clusters(quantized, clusters=8))
    after = quantized.get_layer("hidden").kernel.numpy()
    assert (before != after).any()
    np.testing.assert_array_equal(before == 0, after == 0)
    file = tfq.convert_model(quantized, x[:64]).model
    for integers in stored(file):
        assert len(np.unique(integers)) <= 8
    plain = tfq.convert_model(scrambled(tower()), x[:64]).model
    assert len(gzip.compress(file)) < len(gzip.compress(plain))


def test_clusters_of_channels_are_kept_with_a_scale_per_channel() -> None:
    x, _ = digits()
    model = tower()
    cluster(model, 4, per_channel=True).begin()
    quantized = tfq.keras.quantize(model, data=x[:64])
    fit(quantized, keep_clusters(quantized, clusters=4, per_channel=True))
    for integers in stored(tfq.convert_model(quantized, x[:64]).model):
        columns = integers.reshape(-1, integers.shape[-1])
        assert max(len(np.unique(c)) for c in columns.T) <= 4


def test_removed_channels_then_quantized_and_pruned() -> None:
    x, _ = digits()
    small = remove_channels(scrambled(tower()), 0.5)
    quantized = tfq.keras.quantize(small, data=x[:64])
    fit(quantized, prune(quantized, 0.5))
    file = tfq.convert_model(quantized, x[:64])
    assert file.summary["model"]["full_integer"]
    assert pruning_report(file.model)["sparsity"] >= 0.49
