"""The whole way from a float file to a proven integer one, on small handmade models."""

import dataclasses
import json
import re

import numpy as np
import pytest
from small_models import ACT, Net, cnn

import tfq
from tfq.calibrate import Statistics
from tfq.convert import convert_model
from tfq.convert.summary import lines
from tfq.data.retain import held_back
from tfq.errors import DataError, ModelError, TfqError, UsageError
from tfq.graph.integers import float_tensors
from tfq.graph.model import Model, Op, Tensor, options_type
from tfq.graph.numerics import Grid, asymmetric_grid
from tfq.plan.plan import Plan
from tfq.plan.scheme import LayerRule
from tfq.runtime import Runner

SHAPE = (8, 8, 2)


@pytest.fixture(scope="module")
def source():
    return cnn()


def images(count, seed=1):
    return np.random.default_rng(seed).normal(0, 1, (count, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def result(source):
    return convert_model(source, images(40))


def quant_of(model, name):
    tensor = next(t for t in Model.from_bytes(model).main.tensors() if t.name == name)
    return Grid.of(tensor.dtype, tensor.quant)


# --- the same input gives the same bytes ----------------------------------------------------------


def test_twice_gives_the_same_bytes_and_plan(source, result):
    again = convert_model(source, images(40))
    assert again.model == result.model
    assert again.plan.to_json() == result.plan.to_json()


@pytest.mark.parametrize("form", ["dict", "signature name", "generator", "function", "npz"])
def test_every_form_of_data_gives_the_same_bytes(source, result, form, tmp_path):
    x = images(40)
    path = tmp_path / "samples.npz"
    np.savez(path, image=x)
    data = {
        "dict": {"image": x},
        "signature name": {"x0": x},
        "generator": ({"x0": s[None]} for s in x),
        "function": lambda: ([s[None]] for s in x),
        "npz": str(path),
    }[form]
    got = convert_model(source, data)
    if form in ("generator", "function"):
        # Without a length the first 16 samples are all calibration's: other samples are held back.
        whole = convert_model(source, ({"x0": s[None]} for s in x))
        assert got.model == whole.model
        assert got.summary["data"]["calibration_samples"] == sum(
            not held_back(i, None) for i in range(40)
        )
    else:
        assert got.model == result.model


# Nothing that is judged by single samples.
RANGES = {"quality": "fast", "calibration": "robust"}


def test_the_order_of_samples_does_not_change_the_ranges(source):
    x = images(12)
    a = convert_model(source, x, **RANGES)
    b = convert_model(source, x[::-1].copy(), **RANGES)
    assert a.model == b.model


def test_a_path_and_the_bytes_of_a_file_are_the_same(source, result, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(source)
    assert convert_model(path, images(40)).model == result.model


def test_a_generator_is_consumed_exactly_once(source):
    pulled = []

    def once():
        for i, x in enumerate(images(20)):
            pulled.append(i)
            yield {"x0": x[None]}

    stream = once()
    convert_model(source, stream)
    assert pulled == list(range(20))
    assert next(stream, None) is None


def test_no_more_samples_are_read_than_asked_for(source):
    pulled = []

    def endless():
        while True:
            pulled.append(1)
            yield [images(1)]

    result = convert_model(source, endless(), samples=5)
    assert len(pulled) == 5
    assert result.summary["data"]["calibration_samples"] == 5


# --- plans and statistics -------------------------------------------------------------------------


def test_a_replayed_plan_gives_identical_bytes(source, result, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(result.plan.to_json())
    assert convert_model(source, images(40), plan=path).model == result.model
    assert convert_model(source, images(40), plan=result.plan).model == result.model


def test_a_plan_alone_needs_no_data(source, result):
    assert convert_model(source, plan=result.plan).model == result.model


def test_a_hand_edited_scale_is_in_the_file(source, result, tmp_path):
    body = json.loads(result.plan.to_json())
    body["tensors"]["logits"]["scale"] = 0.25
    body["tensors"]["logits"]["zero_point"] = 7
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(body))
    edited = convert_model(source, images(40), plan=path)
    assert quant_of(edited.model, "logits") == Grid("int8", (0.25,), (7,))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"bits": 3}, "integers of 3 bits, which do not exist"),
        ({"bits": "x"}, r"in 'ops' at 'conv': ValueError: 'bits' is not a whole number: 'x'"),
        ({"dtype": "int4", "bits": 8}, "8 bits, which are more than int4 has"),
    ],
)
def test_an_edit_to_bits_that_do_not_fit_is_named(source, result, edit, message):
    plan = json.loads(result.plan.to_json())
    plan["ops"]["conv"]["inputs"]["1"] |= edit
    with pytest.raises(UsageError, match=message):
        convert_model(source, plan=Plan.from_json(json.dumps(plan)))


def test_a_plan_edited_to_narrower_weights_has_them_in_the_file(source, result):
    plan = json.loads(result.plan.to_json())
    grid = plan["ops"]["logits"]["inputs"]["1"]
    grid |= {"dtype": "int4", "scale": [s * 127 / 7 for s in grid["scale"]]}
    bias = plan["ops"]["logits"]["inputs"]["2"]
    bias["scale"] = [s * 127 / 7 for s in bias["scale"]]
    edited = convert_model(source, images(8), plan=Plan.from_json(json.dumps(plan)))
    ops = Model.from_bytes(edited.model).main.ops
    (dense,) = (op for op in ops if op.outputs[0].name == "logits")
    assert dense.input(1).dtype == "int4"
    assert np.abs(dense.input(1).values()).max() == 7


def test_an_edit_that_no_kernel_takes_is_blamed_on_the_plan(source, result):
    plan = json.loads(result.plan.to_json())
    name = next(n for n, op in plan["ops"].items() if op["op"] == "DEPTHWISE_CONV_2D")
    plan["tensors"][name] |= {"dtype": "int16", "zero_point": 0}
    with pytest.raises(UsageError, match=r"The plan's model does not run: .* Undo the last edit"):
        convert_model(source, images(40), plan=Plan.from_json(json.dumps(plan)))


def test_an_edit_that_litert_would_refuse_names_both_tensors():
    net = Net()
    a = net.conv(net.input(1, 8, 8, 2, name="x"), 4, out="a")
    padded = net.op(
        "PAD", a, net.const([[0, 0], [0, 0], [0, 0], [0, 2]], "int32"), shape=(1, 6, 6, 6), out="p"
    )
    source = net.bytes(net.conv(padded, 4, out="y"))
    plan = json.loads(convert_model(source, images(20)).plan.to_json())
    plan["tensors"]["a"]["scale"] *= 2
    with pytest.raises(UsageError, match="gives 'a' and 'p' different grids, but PAD at 'p'"):
        convert_model(source, plan=Plan.from_json(json.dumps(plan)))


def test_an_edit_to_int16_beside_zero_is_refused(source, result):
    plan = json.loads(result.plan.to_json())
    plan["tensors"]["conv"] |= {"dtype": "int16", "zero_point": -128}
    with pytest.raises(UsageError, match="int16 with the zero point -128, not 0, in 'tensors' at"):
        convert_model(source, plan=Plan.from_json(json.dumps(plan)))


def test_a_plan_of_another_model_is_refused(result):
    net = Net()
    other = net.bytes(net.conv(net.input(1, *SHAPE, name="image"), out="other"))
    with pytest.raises(TfqError, match="made for another model"):
        convert_model(other, images(4), plan=result.plan)


def test_a_missing_plan_is_named(source, tmp_path):
    with pytest.raises(UsageError, match=r"There is no file .*no\.json"):
        convert_model(source, images(4), plan=tmp_path / "no.json")


def test_statistics_of_parts_merge_to_those_of_one_run(source, tmp_path):
    x = images(12)  # Few enough that none is held back.
    whole = convert_model(source, x, **RANGES)
    first = convert_model(source, x[:5], **RANGES)
    first.statistics.save(tmp_path / "first.npz")
    resumed = convert_model(source, x[5:], statistics=tmp_path / "first.npz", **RANGES)
    assert resumed.statistics == whole.statistics
    assert resumed.model == whole.model
    second = convert_model(source, x[5:], **RANGES)
    merged = second.statistics.merge(Statistics.load(tmp_path / "first.npz"))
    assert convert_model(source, statistics=merged, **RANGES).model == whole.model


def test_statistics_of_another_model_are_refused(source, result):
    net = Net()
    x = net.input(1, *SHAPE, name="image")
    with pytest.raises(DataError, match="made for another model"):
        convert_model(net.bytes(net.conv(x)), images(4), statistics=result.statistics)


def test_samples_held_back_were_not_calibrated(source):
    x = images(64)
    back = [i for i in range(64) if held_back(i, 64)]
    assert 3 <= len(back) <= 8
    x[back] *= 50  # Would widen every range tenfold if calibration saw them.
    result = convert_model(source, x, calibration="minmax")
    assert result.statistics["image"].max < 10
    assert result.summary["proof"]["samples"] == len(back)
    assert result.summary["proof"]["held_back"]
    assert result.summary["data"]["calibration_samples"] == 64 - len(back)
    x = images(64)
    x[[i for i in range(64) if i not in back]] *= 0
    x[0, 0, 0, 0] = 1
    assert convert_model(source, x, calibration="minmax").statistics["image"].max == 1


def test_a_few_samples_are_all_calibrated_and_the_summary_says_so(source):
    proof = convert_model(source, images(6)).summary["proof"]
    assert not proof["held_back"]


def test_a_run_of_several_samples_counts_them_all(source):
    net = Net()
    x = net.input(4, 6, name="x")
    model = net.bytes(net.softmax(net.dense(x, 3), out="y"))
    x = np.random.default_rng(0).normal(0, 1, (230, 6)).astype(np.float32)
    summary = convert_model(model, (x, np.arange(230) % 3)).summary
    back = [i for i in range(58) if held_back(i, 58)]
    assert summary["data"]["calibration_samples"] == 230 - 4 * len(back)
    assert summary["proof"]["samples"] == 4 * len(back)
    assert summary["accuracy"]["samples"] == 230


@pytest.mark.parametrize("flat", [True, False])
def test_a_sound_without_a_batch_is_one_sample(flat):
    net = Net()
    wave = net.reshape(net.input(80, name="wave"), 1, 80)
    y = net.softmax(net.dense(net.dense(wave, 12, act=ACT.RELU), 4), out="p")
    source = net.bytes(net.reshape(y, 4, out="flat") if flat else y)
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(64, 80)) * rng.uniform(0.1, 1, (64, 1))).astype(np.float32)
    runner = Runner(source)
    y = np.array([next(iter(runner.run({"wave": v}).values())).argmax() for v in x])
    result = convert_model(source, {"wave": x, "y": y})
    assert result.statistics.samples == result.summary["data"]["calibration_samples"] == 56
    assert result.summary["accuracy"]["samples"] == 64
    assert result.summary["accuracy"]["float_top1"] == 1.0
    assert result.summary["proof"]["samples"] == 8
    if flat:
        few = convert_model(source, {"wave": x, "y": y}, samples=30).summary
        assert few["data"]["description"] == "data (dict), 30 samples"
        return
    models = [source, result.model]
    report = tfq.evaluate_model(models, {"wave": x, "y": y}, probes=16, layer_samples=4).report
    assert report["data"]["samples"] == 64
    (top1,) = [m for m in report["metrics"] if m["name"] == "top1"]
    assert [v["value"] for v in top1["values"]] == [
        100.0,
        pytest.approx(100 * result.summary["accuracy"]["top1"]),
    ]
    assert len(report["layers"][0]["tensors"]) >= 3
    assert {b["name"] for b in report["behaviour"]} >= {"flips_noise", "moved_noise"}
    longer = Net()
    other = longer.bytes(longer.dense(longer.reshape(longer.input(90), 1, 90), 4))
    with pytest.raises(ModelError, match=r"has shape \[90\]"):
        tfq.evaluate_model([source, other], {"wave": x})


# --- the result -----------------------------------------------------------------------------------


def test_the_summary_is_json_with_its_keys(source, result):
    text = json.dumps(result.summary, allow_nan=False)
    assert json.loads(text) == result.summary
    assert set(result.summary) == {
        "version",
        "source",
        "config",
        "model",
        "plan",
        "data",
        "improvements",
        "proof",
        "accuracy",
        "seconds",
        "warnings",
        "notes",
        "versions",
    }
    model = result.summary["model"]
    assert model["full_integer"]
    assert model["bytes"] == len(result.model)
    assert model["ops"]["CONV_2D"] == 2
    assert model["ops"]["FULLY_CONNECTED"] == 1
    assert result.summary["source"]["float_bytes"] == len(source)
    assert result.summary["config"]["scheme"] == "int8"
    assert {"source", "prepare", "calibrate", "build", "prove"} <= set(result.summary["seconds"])
    assert result.summary["versions"]["tfq"] == tfq.__version__
    (output,) = result.summary["proof"]["outputs"]
    assert output["sqnr_db"] > 25
    assert output["max_lsb"] < 8
    assert max(result.summary["proof"]["reference_kernels_lsb"].values()) <= 2


def test_every_tensor_is_integer_and_names_are_kept(source, result):
    model = Model.from_bytes(result.model)
    assert float_tensors(model) == []
    (signature,) = model.signatures
    assert {n: t.name for n, t in signature.inputs.items()} == {"x0": "image"}
    assert {n: t.name for n, t in signature.outputs.items()} == {"y0": "probabilities"}
    names = {t.name for t in model.main.tensors()}
    assert {"conv", "point", "residual", "depthwise", "pooled", "logits"} <= names


@pytest.mark.parametrize("scheme", ["int8", "int16x8", "dynamic", "weight_only", "float16"])
def test_every_scheme_follows_the_float_model(source, scheme):
    result = convert_model(source, images(24), scheme=scheme)
    floor = {"int8": 25, "int16x8": 35, "dynamic": 25, "weight_only": 30, "float16": 50}
    (output,) = result.summary["proof"]["outputs"]
    assert output["sqnr_db"] is None or output["sqnr_db"] > floor[scheme]
    dtypes = {t.dtype for t in Model.from_bytes(result.model).main.inputs}
    assert dtypes == {{"int8": "int8", "int16x8": "int16"}.get(scheme, "float32")}
    assert (result.statistics is None) == (scheme in ("dynamic", "weight_only", "float16"))


def test_float32_changes_nothing_that_is_computed(source):
    result = convert_model(source, scheme="float32")
    sample = {"image": images(1)}
    np.testing.assert_array_equal(
        Runner(result.model).run(sample)["probabilities"],
        Runner(source).run(sample)["probabilities"],
    )


def test_labels_give_the_accuracy_of_both_models(source):
    x = images(40)
    runner = Runner(source)
    labels = np.array([runner.run({"image": s[None]})["probabilities"].argmax() for s in x])
    labels[:4] = (labels[:4] + 1) % 5
    accuracy = convert_model(source, (x, labels)).summary["accuracy"]
    assert accuracy["samples"] == 40
    assert accuracy["float_top1"] == 0.9
    assert accuracy["agreement"] >= 0.9
    assert abs(accuracy["top1"] - accuracy["float_top1"]) <= 0.1


def test_save_writes_the_bytes(result, tmp_path):
    result.save(tmp_path / "out.tflite")
    assert (tmp_path / "out.tflite").read_bytes() == result.model
    with pytest.raises(UsageError, match="there is no folder"):
        result.save(tmp_path / "no" / "out.tflite")


def test_progress_names_the_stages(source):
    stages = []
    convert_model(source, images(20), progress=lambda stage, done, total: stages.append(stage))
    order = list(dict.fromkeys(stages))
    (cost,) = (s for s in order if re.fullmatch(r"Improving: at most \d+ trials and some .*", s))
    expected = [
        "Loading the model",
        "Calibrating",
        "Planning",
        cost,
        "Correcting biases",
        "Proving",
    ]
    assert [s for s in order if s in expected] == expected
    assert "Correcting biases" in order
    tried = [s for s in order if s.startswith("Trying ")]
    assert tried
    assert all(order.index(cost) < order.index(s) for s in tried)


def test_synthetic_data_says_that_it_is_not_calibrated(source):
    result = convert_model(source, "synthetic")
    assert not result.summary["data"]["calibrated"]
    assert any("not calibrated" in w for w in result.summary["warnings"])
    assert result.summary["improvements"] == {}


# --- the boundary ---------------------------------------------------------------------------------


@pytest.mark.parametrize("io", ["float32", "int8", "uint8", "int16"])
@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_input_and_output_types(source, scheme, io):
    result = convert_model(source, images(20), scheme=scheme, input_type=io, output_type=io)
    model = Model.from_bytes(result.model)
    assert [t.dtype for t in (*model.main.inputs, *model.main.outputs)] == [io, io]
    (output,) = result.summary["proof"]["outputs"]
    assert output["sqnr_db"] > (35 if scheme == "int16x8" and io in ("float32", "int16") else 20)
    assert result.summary["model"]["full_integer"] == (io != "float32")


def test_uint8_with_input_range_takes_raw_bytes(source):
    x = np.random.default_rng(2).uniform(-1, 1, (20, *SHAPE)).astype(np.float32)
    plain = convert_model(source, x, input_range=(-1, 1), input_type="uint8")
    grid = quant_of(plain.model, "image")
    assert grid.dtype == "uint8"
    assert grid.zero_point == (128,) or grid.zero_point == (127,)
    raw = np.random.default_rng(0).integers(0, 256, (1, *SHAPE), np.uint8)
    want = Runner(source).run({"image": (raw / 127.5 - 1).astype(np.float32)})["probabilities"]
    got = Runner(plain.model).run({"image": raw})["probabilities"].astype(np.int32) + 128
    assert np.abs(got / 256 - want).max() < 0.03


# --- ranges from training -------------------------------------------------------------------------


def quantizer(net, x, grid):
    """A QUANTIZE and DEQUANTIZE pair around `x`, as TensorFlow's converter writes them."""
    q = Tensor(f"{x.name}/q", x.shape, grid.dtype, quant=grid.quant())
    y = Tensor(f"{x.name}/dq", x.shape, "float32")
    net.ops.append(op("QUANTIZE", x, q))
    net.ops.append(op("DEQUANTIZE", q, y))
    return y


def op(name, x, y):
    return Op(name, [x], [y], options_type(f"{name.capitalize()}Options")())


def trained_model():
    net = Net(3)
    x = net.input(1, *SHAPE, name="image")
    x_q = quantizer(net, x, Grid("uint8", (0.03125,), (100,)))
    w = net.const(net.rng.normal(0, 0.3, (4, 3, 3, 2)), name="w")
    scales = tuple(float(np.float32(s)) for s in (0.01, 0.02, 0.0125, 0.015))
    w_q = quantizer(net, w, Grid("int8", scales, (0,) * 4, 0))
    a = net.conv(x_q, weights=w_q, act=ACT.RELU, out="conv")
    a_q = quantizer(net, a, Grid("uint8", (0.0234375,), (0,)))
    y = net.conv(a_q, 2, size=1, out="last")
    return net.bytes(net.op("FAKE_QUANT", y, out="end", min=-3.0, max=4.5, numBits=8)), scales


def test_trained_ranges_are_honoured_exactly_and_need_no_data():
    source, scales = trained_model()
    result = convert_model(source)
    assert result.summary["model"]["full_integer"]
    assert quant_of(result.model, "image") == Grid("int8", (0.03125,), (-28,))
    assert quant_of(result.model, "conv") == Grid("int8", (0.0234375,), (-128,))
    model = Model.from_bytes(result.model)
    weights = model.main.ops[0].inputs[1]
    assert Grid.of("int8", weights.quant) == Grid("int8", scales, (0,) * 4, 0)
    (output,) = model.main.outputs
    assert Grid.of(output.dtype, output.quant) == asymmetric_grid(-3.0, 4.5)
    assert result.statistics is None
    assert {op.name for op in model.main.ops} == {"CONV_2D"}


def test_data_does_not_move_trained_ranges():
    source, _ = trained_model()
    a = convert_model(source)
    b = convert_model(source, images(20) * 9, bias_correction="none")
    assert {n: t.grid for n, t in a.plan.tensors.items()} == {
        n: t.grid for n, t in b.plan.tensors.items()
    }


def test_contradicting_trained_ranges_are_an_error():
    net = Net()
    x = net.input(1, *SHAPE, name="image")
    a = quantizer(net, x, Grid("uint8", (0.03125,), (100,)))
    b = quantizer(net, x, Grid("uint8", (0.0625,), (100,)))
    with pytest.raises(ModelError, match="'image' two different grids"):
        convert_model(net.bytes(net.op("ADD", a, b)), images(4))


# --- choices for some layers ----------------------------------------------------------------------


def test_rules_choose_by_layer(source):
    rules = [LayerRule(regex="^point$", activations="int16", granularity="per_tensor")]
    result = convert_model(source, images(20), rules=rules)
    assert quant_of(result.model, "point").dtype == "int16"
    assert quant_of(result.model, "conv").dtype == "int8"
    model = Model.from_bytes(result.model)
    sizes = {
        o.outputs[0].name: o.inputs[1].quant.scale.size
        for o in model.main.ops[:4]
        if o.name == "CONV_2D"
    }
    assert sizes == {"conv": 6, "point": 1}
    assert result.summary["model"]["full_integer"]


def test_a_rule_keeps_a_layer_float(source):
    result = convert_model(
        source, images(20), rules=[LayerRule(regex="^residual$", activations="float32")]
    )
    islands = result.summary["plan"]["float_islands"]
    assert set(islands) == {"residual"}
    assert "residual" in islands["residual"]["reason"]
    assert not result.summary["model"]["full_integer"]


def test_exclude_keeps_layers_float_and_the_summary_says_why(source):
    result = convert_model(source, images(20), exclude=["^residual$", "^pooled$"])
    assert set(result.summary["plan"]["float_islands"]) == {"residual", "pooled"}
    (output,) = result.summary["proof"]["outputs"]
    assert output["sqnr_db"] > 25


def atan2():
    net = Net()
    x = net.input(1, 6, name="x")
    a, b = net.dense(x, 3, out="a"), net.dense(x, 3, out="b")
    return net.bytes(net.dense(net.op("ATAN2", a, b, out="angle"), 3, out="y"))


def test_an_op_without_integer_form_stops_the_run_and_is_named():
    x = np.random.default_rng(0).normal(0, 1, (20, 6)).astype(np.float32)
    with pytest.raises(TfqError, match=r"(?s)ATAN2 at 'angle'.*--allow_float=ATAN2"):
        convert_model(atan2(), x)
    for allowed in ("ATAN2", "^angle$"):
        result = convert_model(atan2(), x, allow_float=[allowed])
        islands = result.summary["plan"]["float_islands"]
        assert {n: i["op"] for n, i in islands.items()} == {"angle": "ATAN2"}
        floats = {f.tensor.name for f in float_tensors(Model.from_bytes(result.model))}
        assert floats == {"a/float32", "b/float32", "angle"}


# --- wrong calls ----------------------------------------------------------------------------------


def test_no_data_names_the_three_ways_out(source):
    with pytest.raises(UsageError) as error:
        convert_model(source)
    for way in ("--data", "--scheme=dynamic", "--data=synthetic"):
        assert way in str(error.value)
    assert convert_model(source, scheme="dynamic").statistics is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "int9"}, "Did you mean 'int8'"),
        ({"calibration": "minmx"}, "Did you mean 'minmax'"),
        ({"calibration": "autos"}, "Choose one of: auto, robust.*Did you mean 'auto'"),
        ({"weights": "mce"}, "Did you mean 'mse'"),
        ({"bias_correction": "sequentiel"}, "Did you mean 'sequential'"),
        ({"input_type": "unit8"}, "Did you mean 'uint8'"),
        ({"granularity": "per_chanel"}, "Did you mean 'per_channel'"),
        ({"input_range": (1, 2)}, "Received: 1,2"),
        ({"scheme": "dynamic", "input_type": "int8"}, "needs an integer scheme"),
        (
            {"rules": [LayerRule(regex="Auto", activations="int16")]},
            "int16: 'Auto' matches .*Did you mean 'auto'",
        ),
        ({"exclude": ["("]}, "not a regular expression"),
        ({"signature": "serve"}, "has no signature 'serve'"),
    ],
)
def test_wrong_options_are_named_before_anything_runs(source, options, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        convert_model(source, images(4), **options)


def test_an_already_quantized_model_is_refused(result):
    with pytest.raises(ModelError, match="already quantized"):
        convert_model(result.model, images(4))


def test_bad_samples_are_named(source):
    with pytest.raises(DataError, match="shape"):
        convert_model(source, np.zeros((4, 7, 8, 2), np.float32))
    x = images(4)
    x[2, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"[Ss]ample 2 .*NaN"):
        convert_model(source, x)
    with pytest.raises(DataError, match="no samples"):
        convert_model(source, iter([]))


def test_a_model_without_signatures_has_tensor_names(source):
    model = Model.from_bytes(source)
    bare = dataclasses.replace(model, signatures=[]).to_bytes()
    result = convert_model(bare, {"image": images(20)})
    assert result.summary["source"]["signature"] is None
    assert Model.from_bytes(result.model).signatures == []


def test_a_larger_batch(source):
    net = Net()
    x = net.input(4, 6, name="x")
    data = np.random.default_rng(0).normal(0, 1, (30, 6)).astype(np.float32)
    result = convert_model(net.bytes(net.dense(x, 3, out="y")), data)
    assert result.summary["proof"]["outputs"][0]["max_lsb"] < 3


def test_a_plan_is_replayed_alike_with_more_samples_than_are_kept():
    net = Net()
    x = net.input(1, 12, name="x")
    y = net.dense(net.dense(x, 16, act=ACT.RELU, out="a"), 4, out="y")
    source = net.bytes(y)
    data = np.random.default_rng(0).exponential(1, (700, 12)).astype(np.float32)
    first = convert_model(source, lambda: ([v[None]] for v in data))
    assert first.summary["improvements"]["bias_correction"]["kept"]
    again = convert_model(source, lambda: ([v[None]] for v in data), plan=first.plan)
    assert again.model == first.model
    assert again.summary["proof"] == first.summary["proof"]


def test_tensors_without_names_or_with_the_same():
    net = Net()
    x = net.input(1, 6, name="x")
    a, b = net.dense(x, 3, out="y"), net.dense(x, 3, out="y")
    model = net.model(a, b)
    x.name = ""
    model.signatures = []
    data = np.random.default_rng(0).normal(0, 1, (20, 6)).astype(np.float32)
    result = convert_model(model.to_bytes(), data)
    outputs = result.summary["proof"]["outputs"]
    assert len({o["name"] for o in outputs}) == 2
    assert min(o["sqnr_db"] for o in outputs) > 25


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"scheme": "dynamic", "bias_correction": "sequential"}, "computes in float"),
        ({"scheme": "dynamic", "quality": "best"}, "quality=best has no effect.*in float"),
        ({"data": "synthetic", "calibration": "auto"}, "no real samples"),
        ({"data": "synthetic", "quality": "best"}, "quality=best has no effect.*no real samples"),
    ],
)
def test_options_without_effect_are_told(source, options, why):
    warnings = convert_model(source, **{"data": images(20), **options}).summary["warnings"]
    assert any("has no effect" in w and re.search(why, w) for w in warnings)


def test_improvements_that_lack_samples_are_named(source, result):
    summary = convert_model(source, statistics=result.statistics).summary
    found = re.search(r"left out +(.*?)  error", " ".join(lines(summary))).group(1)
    for name in ("calibration", "bias_correction", "no real samples"):
        assert name in found
    assert "left_out" not in result.summary["notes"]


def test_fast_with_an_option_that_asks_for_more_does_it(source):
    result = convert_model(source, images(40), quality="fast", calibration="auto")
    assert len(result.summary["improvements"]["calibration"]["tried"]) >= 4
    with pytest.raises(UsageError, match="quality"):
        convert_model(source, images(40), quality=["best"])
