"""Layers of all models of a compared: what is paired, what is left out, and what is told."""

import dataclasses
import math

import numpy as np
import pytest
from small_models import ACT, Net, cnn, config_of, plan_of

from tfq.errors import DataError
from tfq.evaluate.layers.analyse_models import analyse_models
from tfq.evaluate.models import load_models
from tfq.executors import open_workers
from tfq.graph.model import Model
from tfq.graph.numerics import Grid, dequantize
from tfq.plan.patterns import exclude_rules


def int8(source, config=None):
    return plan_of(source, config=config).emit().model.to_bytes()


def rows(compared, count=4, seed=3):
    """Samples as an evaluation keeps them: argument name -> a row."""
    rng = np.random.default_rng(seed)
    return [
        {s.name: rng.normal(0, 1, s.shape[1:]).astype(np.float32) for s in compared.specs}
        for _ in range(count)
    ]


def analysed(*models, samples=None):
    """Analyses, notes and the stages that were shown."""
    compared = load_models(list(models))
    shown = []
    with open_workers(1) as crew:
        analyses, notes = analyse_models(
            compared,
            samples or rows(compared),
            crew,
            lambda stage, done, total: shown.append(stage),
        )
    return analyses, notes, shown


def changed(data, change):
    model = Model.from_bytes(data)
    change(model, {t.name: t for t in model.main.tensors()})
    return model.to_bytes()


def figures(analysis):
    """What does not depend on names."""
    return [dataclasses.replace(t, name="", inputs=(), shares_with=()) for t in analysis.tensors]


# --- pairs ----------------------------------------------------------------------------------------


def two_inputs():
    """Inputs of one shape and of other meaning."""
    net = Net(1)
    a, b = net.input(1, 6, 6, 3, name="first"), net.input(1, 6, 6, 3, name="second")
    x = net.op("ADD", net.conv(a, 4, act=ACT.RELU, out="left"), net.conv(b, 4, out="right"))
    return net.bytes(net.conv(x, 2, out="mask"), net.op("TANH", x, out="flow"))


@pytest.mark.parametrize("swap_names", [False, True])
def test_inputs_in_another_order_are_those_of_the_signature(swap_names):
    source = two_inputs()
    quantized = int8(source)

    def reorder(model, tensors):
        model.main.inputs.reverse()
        names = ("second", "first") if swap_names else ("arg_1", "arg_0")
        tensors["first"].name, tensors["second"].name = names

    plain = analysed(source, quantized)[0]["model 2"]
    other, notes, _ = analysed(source, changed(quantized, reorder))
    assert notes == []
    assert other["model 2"].unmatched == ()
    given = sorted(figures(plain), key=repr)
    assert sorted(figures(other["model 2"]), key=repr) == given
    assert all(t.accumulated.sqnr_db > 25 for t in other["model 2"].tensors)


def test_outputs_with_other_names_are_analysed():
    source = two_inputs()
    quantized = int8(source)

    def rename(model, tensors):
        tensors["mask"].name = "StatefulPartitionedCall_1:1"
        tensors["flow"].name = "StatefulPartitionedCall_1:0"

    plain = analysed(source, quantized)[0]["model 2"]
    other, notes, _ = analysed(source, changed(quantized, rename))
    assert notes == []
    assert figures(other["model 2"]) == figures(plain)
    assert {t.name for t in other["model 2"].tensors} >= {
        "StatefulPartitionedCall_1:0",
        "StatefulPartitionedCall_1:1",
    }


def test_outputs_whose_names_are_crossed_are_those_of_the_signature():
    net = Net(2)
    x = net.conv(net.input(1, 6, 6, 3, name="x"), 4, out="inside")
    source = net.bytes(net.conv(x, 2, out="one"), net.conv(x, 2, out="two"))
    quantized = int8(source)

    def cross(model, tensors):
        tensors["one"].name, tensors["two"].name = "two", "one"

    plain = analysed(source, quantized)[0]["model 2"]
    assert figures(analysed(source, changed(quantized, cross))[0]["model 2"]) == figures(plain)


# --- what has no counterpart ----------------------------------------------------------------------


def test_tensors_without_a_counterpart_are_named():
    source = cnn()

    def rename(model, tensors):
        tensors["point"].name = "elsewhere"

    analyses, notes, _ = analysed(source, changed(int8(source), rename))
    assert analyses["model 2"].unmatched == ("elsewhere",)
    assert notes == [
        "1 of 8 quantized tensors of model 2 has no counterpart in the float model and is not "
        "compared: elsewhere."
    ]


def test_a_model_of_another_origin_is_doubted():
    source = cnn()

    def rename(model, tensors):
        for name in ("conv", "point", "residual", "depthwise", "pooled", "logits"):
            tensors[name].name = f"other/{name}"

    analyses, notes, _ = analysed(source, changed(int8(source), rename))
    assert len(analyses["model 2"].tensors) == 2
    (note,) = notes
    assert note.startswith("6 of 8 quantized tensors of model 2 have no counterpart")
    assert note.endswith(
        "other/conv, other/point, other/residual, other/depthwise, other/pooled and 1 more. "
        "Is it made from the same model?"
    )


def test_a_model_without_any_counterpart_is_not_run():
    source = cnn()
    ends = config_of(
        rules=exclude_rules(("^conv$", "^probabilities$")),
        input_type="float32",
        output_type="float32",
    )

    def rename(model, tensors):
        for t in tensors.values():
            if t not in (*model.main.inputs, *model.main.outputs) and not t.is_const:
                t.name = f"other/{t.name}"
        # The input is read as it is.
        _, _, conv, *_ = model.main.ops
        conv.inputs[0] = model.main.inputs[0]
        del model.main.ops[:2]

    analyses, notes, shown = analysed(source, changed(int8(source, ends), rename))
    assert analyses == {}
    assert shown == []
    (note,) = notes
    assert note.startswith("None of the ")
    assert note.endswith("Is it made from the same model?")


# --- weights alone --------------------------------------------------------------------------------


def sqnr(real, got):
    return 10 * math.log10(np.sum(real**2) / np.sum((got - real) ** 2))


@pytest.mark.parametrize("scheme", ["dynamic", "weight_only", "float16"])
def test_of_a_model_that_computes_in_float_the_weights_are_told(scheme):
    rng = np.random.default_rng(4)
    net = Net(4)
    x = net.conv(net.input(1, 12, 12, 8, name="x"), 16, out="wide")
    weights = rng.normal(0, 1, (16, 3, 3, 16)) * rng.choice([1e-3, 1], (16, 3, 3, 16))
    source = net.bytes(net.conv(x, 16, weights=weights, out="bad"))
    quantized = int8(source, config_of(scheme))
    analyses, notes, shown = analysed(source, quantized)
    assert analyses == {}
    assert shown == []
    graph = Model.from_bytes(quantized).main
    real = {t.name: t.values() for t in Model.from_bytes(source).main.tensors() if t.is_const}
    pairs = {}
    for t in graph.tensors():
        if t.is_const and t.name in real and len(t.shape) == 4:
            grid = None if t.quant is None else Grid.of(t.dtype, t.quant)
            got = t.values() if grid is None else dequantize(t.values(), grid)
            pairs[t.name] = real[t.name].astype(np.float64), got.astype(np.float64)
    assert len(pairs) == 2
    each = [sqnr(*p) for p in pairs.values()]
    both = sqnr(*(np.concatenate([p[i].reshape(-1) for p in pairs.values()]) for i in (0, 1)))
    where = "bad" if each[1] < each[0] else "wide"
    assert notes == [
        "model 2 has no quantized activations: there is nothing to compare layer by layer; its "
        f"weights are {both:.1f} dB from the float ones, the worst of what computes {where!r} "
        f"with {min(each):.1f} dB."
    ]


# --- batches --------------------------------------------------------------------------------------


def flattened(batch, seed=6):
    """Its reshape has the batch written in it."""
    net = Net(seed)
    x = net.conv(net.input(batch, 6, 6, 2, name="x"), 4, act=ACT.RELU, out="conv")
    flat = net.op("RESHAPE", x, net.const([batch, 64], "int32"), shape=(batch, 64), out="flat")
    return net.bytes(net.softmax(net.dense(flat, 3, out="logits"), out="y"))


@pytest.mark.parametrize(("reference", "quantized"), [(1, 4), (4, 1)])
def test_models_of_different_batches_are_brought_to_one(reference, quantized):
    source = flattened(reference)
    plain = analysed(flattened(1), int8(flattened(1)))[0]["model 2"]
    analyses, notes, _ = analysed(source, int8(flattened(quantized)))
    assert notes == []
    found = analyses["model 2"]
    assert [t.shape[0] for t in found.tensors] == [4] * 5
    assert [t.op for t in found.tensors] == [t.op for t in plain.tensors]
    for t in found.tensors:
        assert t.isolated.sqnr_db > 20
        assert t.accumulated.sqnr_db > 15


def test_batches_that_cannot_be_brought_together_lose_nothing_else():
    source, other = flattened(2), int8(flattened(4))
    analyses, notes, _ = analysed(source, other, int8(source))
    assert list(analyses) == ["model 3"]
    (note,) = notes
    assert note.startswith(
        "Layers of model 2 are not compared. It is made for 4 samples at a time and model 1 for 2, "
        "and model 1 cannot be made to take as many."
    )


# --- the rest -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_the_counterpart_of_a_model_with_a_float_island_is_found(scheme, monkeypatch):
    from tfq.evaluate.layers import analyse_models as module

    asked = []
    real = module.prepare

    def prepare(source, **options):
        asked.append(options["activations"])
        return real(source, **options)

    monkeypatch.setattr(module, "prepare", prepare)
    config = config_of(
        scheme, rules=exclude_rules(("^residual$",)), input_type="float32", output_type="float32"
    )
    analyses, notes, _ = analysed(cnn(), int8(cnn(), config))
    assert asked == ["int16" if scheme == "int16x8" else "int8"]
    assert notes == []
    assert len(analyses["model 2"].tensors) == 8


def test_bad_samples_are_the_users():
    bad = [{"x0": np.full((8, 8, 2), np.nan, np.float32)}]
    with pytest.raises(DataError, match="holds NaN"):
        analysed(cnn(), int8(cnn()), samples=bad)


def test_without_a_float_reference_there_is_nothing_to_compare_with():
    analyses, notes, _ = analysed(int8(cnn()))
    assert analyses == {}
    assert notes == [
        "Layers are not compared: the reference is no float model. Give the float model, or the "
        "source, with --reference."
    ]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["int8", "int16x8", "dynamic"])
def test_files_of_tensorflow_itself(scheme, tmp_path):
    tf = pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    layers = keras.layers
    keras.utils.set_random_seed(0)
    a, b = keras.Input((8, 8, 3), name="near"), keras.Input((8, 8, 3), name="far")
    x = layers.Conv2D(8, 3, activation="relu", name="joint")(a - 0.5 * b)
    first = layers.Dense(4, activation="softmax", name="kind")(layers.Flatten()(x))
    second = layers.Dense(4, activation="tanh", name="place")(layers.Flatten()(x))
    keras.Model([a, b], [first, second]).export(str(tmp_path), verbose=False)
    rng = np.random.default_rng(0)

    def samples():
        for _ in range(20):
            one = rng.normal(0, 1, (2, 1, 8, 8, 3)).astype(np.float32)
            yield [one[0], one[1]]

    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path))
    floats = converter.convert()
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    sets = tf.lite.OpsSet
    if scheme != "dynamic":
        converter.representative_dataset = samples
        wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [
            sets.TFLITE_BUILTINS_INT8 if scheme == "int8" else wide
        ]
    analyses, notes, _ = analysed(floats, converter.convert())
    if scheme == "dynamic":
        (note,) = notes
        assert analyses == {}
        assert "its weights are" in note
        assert any(f"the worst of layer {n} with" in note for n in ("joint", "kind", "place"))
        return
    assert notes == []
    (analysis,) = analyses.values()
    assert analysis.unmatched == ()
    assert {t.dtype for t in analysis.tensors} == {scheme.removesuffix("x8")}
    assert [t.op for t in analysis.tensors if t.op in ("SOFTMAX", "TANH")]
    for t in analysis.tensors:
        assert t.accumulated.sqnr_db > 15
