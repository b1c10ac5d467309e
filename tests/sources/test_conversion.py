"""TensorFlow's formats and objects, converted in this process: one TensorFlow import for all."""

import io

import numpy as np
import pytest

from tfq.errors import ModelError, UsageError
from tfq.graph.model import Model
from tfq.runtime import Runner
from tfq.sources import memory, worker

pytestmark = pytest.mark.slow


class Converter:
    """Does in this process what `load_source` lets the worker do."""

    def __init__(self, tmp_path):
        self.tmp_path = tmp_path

    def __call__(self, source, kind=None, *, batch=1, signature=None):
        scratch = self.tmp_path / "scratch"
        request = {"kind": kind, "path": str(source), "signature": signature}
        if kind is None:
            kind = memory.kind_of(source)
            request = memory.save_object(source, kind, self.tmp_path / "object", batch)
        request |= {
            "batch": batch,
            "shown": "the model",
            "scratch": str(scratch),
            "output": str(self.tmp_path / "out.tflite"),
        }
        self.answer = worker.run(request, worker.Stages(io.StringIO()))
        self.content = (self.tmp_path / "out.tflite").read_bytes()
        self.model = Model.from_bytes(self.content)
        return self

    @property
    def ops(self) -> list[list[str]]:
        return [[op.label for op in g.ops] for g in self.model.graphs]

    @property
    def interface(self) -> tuple[str, list[str], list[str]]:
        (s,) = self.model.signatures
        return s.key, list(s.inputs), list(s.outputs)

    def run(self, *inputs):
        names = [t.name for t in self.model.signatures[0].inputs.values()]
        got = Runner(self.content).run(dict(zip(names, inputs, strict=True)))
        return [got[t.name] for t in self.model.signatures[0].outputs.values()]


@pytest.fixture
def convert(tmp_path):
    return Converter(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def tensorflow():
    return pytest.importorskip("tensorflow")


CNN_OPS = [["CONV_2D", "DEPTHWISE_CONV_2D", "RESHAPE", "FULLY_CONNECTED"]]


def test_keras_file_with_a_batch(convert, tf_folder):
    done = convert(tf_folder / "cnn.keras", "keras", batch=2)
    assert done.ops == CNN_OPS
    assert done.interface == ("serving_default", ["image"], ["block"])
    assert done.model.main.inputs[0].shape == (2, 8, 8, 3)
    assert done.answer["checks"]["max_abs_diff/block"] < 1e-5
    assert "stem" in done.answer["layers"]


def test_saved_model_of_keras(convert, tf_folder):
    done = convert(tf_folder / "cnn", "saved_model", signature="serve")
    assert done.ops == CNN_OPS
    assert done.interface == ("serve", ["image"], ["output_0"])
    assert done.answer["warnings"] == []


def test_old_h5_goes_through_tf_keras(convert, tf_folder):
    done = convert(tf_folder / "old.h5", "h5", batch=3)
    assert done.ops == [["DEPTHWISE_CONV_2D"]]
    assert done.interface == ("serving_default", ["pixels"], ["dw"])
    assert "loaded it with tf_keras" in done.answer["warnings"][0]


@pytest.mark.parametrize("kind", ["h5", "keras"])
def test_extensions_in_upper_case(convert, tmp_path, kind):
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.ReLU()])
    model.save(tmp_path / f"m.{kind}")
    (tmp_path / f"m.{kind}").rename(tmp_path / f"M.{kind.upper()}")
    (tmp_path / "scratch").mkdir()
    done = convert(tmp_path / f"M.{kind.upper()}", kind)
    assert (done.ops, done.answer["warnings"]) == ([["RELU"]], [])


def test_signatures_of_a_saved_model(convert, tf_folder):
    done = convert(tf_folder / "two", "saved_model", signature="second", batch=2)
    assert done.interface == ("second", ["a", "b"], ["larger", "sum"])
    a, b = np.full((2, 4), 3, np.float32), np.full((2, 4), 5, np.float32)
    larger, total = done.run(a, b)
    np.testing.assert_array_equal((larger, total), (b, a + b))
    with pytest.raises(UsageError, match=r"several signatures.*first.*Choose one"):
        convert(tf_folder / "two", "saved_model")
    with pytest.raises(ModelError, match=r"'x' has the shape \[\?, \?\].*static shape"):
        convert(tf_folder / "two", "saved_model", signature="free")


def test_damaged_saved_model_and_keras_files(convert, tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"\x00\x01\x02nonsense")
    with pytest.raises(ModelError, match="cannot be loaded"):
        convert(folder, "saved_model")
    for kind in ("keras", "h5"):
        path = tmp_path / f"m.{kind}"
        path.write_bytes(b"nonsense")
        with pytest.raises(ModelError, match=r"cannot be loaded. Keras 3: .* tf_keras: "):
            convert(path, kind)
    (tmp_path / "m.pb").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="not a frozen TensorFlow graph"):
        convert(tmp_path / "m.pb", "frozen_graph")


def test_frozen_graph(convert, tf_folder):
    done = convert(tf_folder / "frozen.pb", "frozen_graph", batch=3)
    assert done.interface == ("serving_default", ["a"], ["out"])
    (y,) = done.run(np.ones((3, 4), np.float32))
    np.testing.assert_array_equal(y, np.full((3, 2), 3.0))


def test_keras_model_with_several_inputs_and_outputs(convert):
    import keras

    a, b = keras.Input((4,), name="left-1"), keras.Input((4,), name="right")
    both = keras.layers.Concatenate()([a, b])
    outputs = [keras.layers.Dense(2, name="small")(both), keras.layers.ReLU(name="cut")(a)]
    done = convert(keras.Model([a, b], outputs))
    assert done.interface == ("serving_default", ["left-1", "right"], ["small", "cut"])
    x = np.array([[-1, 2, -3, 4]], np.float32)
    np.testing.assert_array_equal(done.run(x, x)[1], np.maximum(x, 0))


def test_subclassed_keras_model_with_dicts(convert):
    import keras

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            return {"second out": self.dense(x["p"]), "first": x["q"] * 2}

    net = Net()
    with pytest.raises(ModelError, match=r"never been called.*Call it once"):
        convert(net)
    net({"p": np.zeros((1, 4), np.float32), "q": np.zeros((1, 2), np.float32)})
    done = convert(net, batch=2)
    assert done.interface[1:] == (["p", "q"], ["second out", "first"])
    assert [t.shape for t in done.model.signatures[0].inputs.values()] == [(2, 4), (2, 2)]


def test_subclassed_tf_keras_model(convert):
    import tf_keras

    class Net(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = tf_keras.layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    net = Net()
    net(np.zeros((1, 4), np.float32))
    assert convert(net).ops == [["FULLY_CONNECTED"]]


@pytest.mark.parametrize("layer", ["LSTM", "GRU"])
def test_keras_recurrent_layers_become_loops_with_constant_weights(convert, layer):
    import keras

    x = keras.Input((5, 3))
    done = convert(keras.Model(x, getattr(keras.layers, layer)(4)(x)))
    names = {name for graph in done.ops for name in graph}
    assert "WHILE" in names
    assert "FULLY_CONNECTED" in names
    assert not names & {"VAR_HANDLE", "READ_VARIABLE", "BATCH_MATMUL"}
    assert done.answer["checks"]["max_rel_diff"] < 1e-5


def test_a_loop_traced_with_a_free_batch_gets_the_batch(convert, tmp_path):
    import keras

    x = keras.Input((5, 3))
    y = keras.layers.LSTM(4, return_sequences=True)(x)
    keras.Model(x, keras.layers.Dense(2)(y)).export(tmp_path / "lstm", verbose=False)
    done = convert(tmp_path / "lstm", "saved_model", batch=2)
    assert not [name for graph in done.ops for name in graph if "CUSTOM" in name]
    assert done.model.main.outputs[0].shape == (2, 5, 2)
    assert done.answer["checks"]["max_rel_diff"] < 1e-5


def test_custom_layers_in_a_file_have_a_way_out(convert, tmp_path):
    import keras

    class Twice(keras.layers.Layer):
        def call(self, x):
            return x * 2

    x = keras.Input((4,))
    model = keras.Model(x, Twice()(x))
    model.save(tmp_path / "m.keras")
    assert convert(model).ops == [["MUL"]]
    kept = keras.saving.get_custom_objects()
    for name in [n for n in kept if n.endswith("Twice")]:
        del kept[name]
    with pytest.raises(ModelError, match=r"is a Twice of the module .*pass the model object"):
        convert(tmp_path / "m.keras", "keras")


def test_tf_keras_lstm_is_fused(convert):
    """Its state tensors outlive an invocation, which must not look like a wrong conversion."""
    import tf_keras

    x = tf_keras.Input((5, 3))
    done = convert(tf_keras.Model(x, tf_keras.layers.LSTM(4)(x)))
    assert done.ops[0][0] == "UNIDIRECTIONAL_SEQUENCE_LSTM"


def function(tf, f, *shapes, dtype=None):
    specs = [
        tf.TensorSpec(s, dtype or tf.float32, name=n) for n, s in zip("ab", shapes, strict=False)
    ]
    return tf.function(f).get_concrete_function(*specs)


def test_concrete_function_with_a_variable(convert, tensorflow):
    tf = tensorflow
    weight = tf.Variable(2.0)
    done = convert(function(tf, lambda a: (a * weight, tf.exp(a)), (None, 4)), batch=2)
    assert done.interface == ("serving_default", ["a"], ["output_0", "output_1"])
    np.testing.assert_array_equal(done.run(np.ones((2, 4), np.float32))[0], np.full((2, 4), 2))


def test_arguments_that_are_no_tensors_stay_as_traced(convert, tensorflow):
    tf = tensorflow
    traced = tf.function(lambda x, negate, factor=1.0: -x * factor if negate else x)
    spec = tf.TensorSpec((None, 2), name="x")
    done = convert(traced.get_concrete_function(spec, True, factor=3.0))
    assert done.interface == ("serving_default", ["x"], ["output_0"])
    np.testing.assert_array_equal(done.run(np.ones((1, 2), np.float32)), [[[-3, -3]]])


def test_a_relu_that_the_converter_drops_is_noticed(convert, tensorflow):
    tf = tensorflow
    with pytest.raises(ModelError, match=r"'output_0': the largest difference is \d.*drop a ReLU"):
        convert(function(tf, lambda a, b: tf.nn.relu(tf.matmul(a, b)), (4, 4), (4, 4)))


def test_a_fixed_batch_is_not_changed_in_silence(convert, tensorflow):
    with pytest.raises(ModelError, match=r"batch fixed at 1, so it cannot become 4"):
        convert(function(tensorflow, lambda a: a * 2.0, (1, 4)), batch=4)


def test_state_is_kept_and_compared_step_by_step(convert, tensorflow):
    tf = tensorflow
    state = tf.Variable(tf.zeros((1, 4)))
    done = convert(function(tf, lambda a: state.assign_add(a) * 1.0, (1, 4)))
    assert {"VAR_HANDLE", "ASSIGN_VARIABLE"} <= set(done.ops[0])
    assert done.answer["warnings"] == []


def test_what_no_output_depends_on_is_no_state(convert, tensorflow):
    tf = tensorflow
    calls, last, kept = (tf.Variable(tf.zeros(s)) for s in ((), (1, 4), (1, 4)))

    def counted(a):
        calls.assign_add(1.0)
        last.assign(a * calls)
        return a * 2.0

    done = convert(function(tf, counted, (1, 4)))
    assert done.ops == [["MUL"]]
    np.testing.assert_array_equal(done.run(np.ones((1, 4), np.float32)), [[[2, 2, 2, 2]]])

    def both(a):
        last.assign(a)
        return kept.assign_add(a) * counted(a)

    done = convert(function(tf, both, (1, 4)))
    assert done.ops[0].count("VAR_HANDLE") == 1
    one = np.ones((1, 4), np.float32)
    assert [done.run(one)[0][0, 0] for _ in range(2)] == [2, 2]


def test_random_layers_do_nothing_at_inference(convert, tmp_path):
    import keras
    from keras import layers

    image = keras.Input((8, 8, 3), name="image")
    inner = [layers.RandomRotation(0.1), layers.GaussianNoise(0.1), layers.RandomHue(0.1)]
    y = keras.Sequential([keras.Input((8, 8, 3)), *inner], name="augment")(image)
    y = layers.Pipeline([layers.RandomFlip(), layers.RandomGrayscale(0.5)])(y)
    for layer in (layers.RandAugment(), layers.MixUp(), layers.CutMix(), layers.RandomErasing()):
        y = layer(y)
    y = layers.SpatialDropout2D(0.1)(layers.Conv2D(4, 3)(y))
    y = layers.AlphaDropout(0.1)(layers.GlobalAveragePooling2D()(y))
    model = keras.Model(image, layers.Dense(2)(layers.Dropout(0.5)(y)))
    path = tmp_path / "model.keras"
    model.save(path)
    for source in ((model,), (path, "keras")):
        done = convert(*source)
        assert done.ops == [["CONV_2D", "MEAN", "FULLY_CONNECTED"]]
        assert done.answer["warnings"] == []
        assert done.answer["checks"]["max_rel_diff"] < 1e-5


def test_a_model_exported_in_training_mode_is_told_so(convert, tensorflow, tmp_path):
    import keras
    import tf_keras
    from keras import layers

    image = keras.Input((8, 8, 3), name="image")
    y = layers.Conv2D(4, 3, use_bias=False)(layers.Resizing(6, 6)(image))
    keras.Model(image, layers.BatchNormalization()(y)).export(tmp_path / "norm", verbose=False)
    y = layers.Conv2D(4, 3)(layers.RandomFlip()(image))
    keras.Model(image, y).export(tmp_path / "flip", verbose=False)
    old = tf_keras.Sequential([tf_keras.layers.BatchNormalization(input_shape=(4, 4, 3))])
    trained = function(tensorflow, lambda a: old(a, training=True), (1, 4, 4, 3))
    for source, says in (
        ((tmp_path / "norm", "saved_model"), "exported in training mode: at 'batch_normalization"),
        ((trained,), "exported in training mode: at '.*batch_normalization"),
        ((tmp_path / "flip", "saved_model"), "random numbers at 'random_flip.*training mode"),
    ):
        with pytest.raises(ModelError, match=says) as error:
            convert(*source)
        assert "training=False" in str(error.value)


def test_a_random_source_is_not_compared(convert, tensorflow):
    tf = tensorflow
    done = convert(function(tf, lambda a: a + tf.random.normal((2, 4)), (2, 4)))
    assert "another output each time" in done.answer["warnings"][0]


def test_trained_ranges_become_pairs(convert, tensorflow):
    tf = tensorflow
    quantize = tf.quantization.fake_quant_with_min_max_args
    done = convert(function(tf, lambda a: quantize(tf.nn.relu(quantize(a, -1, 1)), -1, 1), (2, 4)))
    assert done.ops == [["QUANTIZE", "DEQUANTIZE", "RELU", "QUANTIZE", "DEQUANTIZE"]]


def test_tokens_are_drawn_small(convert, tensorflow):
    tf = tensorflow
    table = tf.reshape(tf.range(20.0), (10, 2))
    done = convert(function(tf, lambda a: tf.gather(table, a), (1, 4), dtype=tf.int32))
    assert done.ops == [["GATHER"]]
    assert done.answer["checks"]["max_abs_diff"] == 0


def test_ops_without_a_builtin_form(convert, tensorflow):
    tf = tensorflow
    done = convert(function(tf, tf.linalg.inv, (2, 4, 4)))
    assert done.ops == [["CUSTOM:FlexMatrixInverse"]]
    assert "Not compared" in done.answer["warnings"][0]


def test_ops_without_any_form_are_named(convert, tensorflow):
    tf = tensorflow
    with pytest.raises(ModelError, match=r"no TFLite form: Erfinv"):
        convert(function(tf, tf.math.erfinv, (2, 4)))


def test_strings_are_refused(convert, tensorflow):
    tf = tensorflow
    with pytest.raises(ModelError, match="'a' is of type string"):
        convert(function(tf, tf.strings.length, (2,), dtype=tf.string))
