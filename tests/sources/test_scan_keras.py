"""Configurations of Keras files that hold code, or name it: refused before Keras sees them."""

import base64
import json
import marshal
import pickle
import zipfile

import h5py
import numpy as np
import pytest

from tfq.errors import ModelError
from tfq.sources.scan_keras import refuse_keras_file

MARSHALLED = base64.b64encode(marshal.dumps((lambda x: x).__code__)).decode()
PICKLED = base64.b64encode(pickle.dumps({"some": "thing"})).decode()
DENSE = {"class_name": "Dense", "config": {"name": "d", "units": 2, "activation": "relu"}}


def model(*layers, **more):
    return {"class_name": "Sequential", "config": {"name": "net", "layers": list(layers)}, **more}


def layer(class_name, module="keras.layers", registered_name=None, **config):
    return {
        "module": module,
        "class_name": class_name,
        "config": {"name": "odd", **config},
        "registered_name": registered_name,
    }


def function(name, module="builtins"):
    return {"class_name": "function", "config": name, "module": module, "registered_name": name}


@pytest.fixture(params=["h5", "keras"])
def refuse(request, tmp_path):
    """Writes a configuration into a file of each format, and looks at that."""

    def write(config):
        path = tmp_path / f"m.{request.param}"
        if request.param == "h5":
            with h5py.File(path, "w") as file:
                file.attrs["model_config"] = json.dumps(config)
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("config.json", json.dumps(config))
        refuse_keras_file(str(path), path.name)

    return write


HOSTILE = {
    "a Lambda": (layer("Lambda"), "the layer 'odd' is a Lambda layer"),
    "by its module": (layer("Lambda", "keras.src.layers.core.lambda_layer"), "is a Lambda layer"),
    "by the name it is registered under": (
        layer("Harmless", registered_name="keras>Lambda"),
        "is a Lambda layer",
    ),
    "by a path": (layer("core.Lambda", "tf_keras.src.layers"), "is a Lambda layer"),
    "in a wrapper": (
        layer("TimeDistributed", layer=layer("Bidirectional", layer=layer("Lambda"))),
        "is a Lambda layer",
    ),
    "in a model in a model": (model(model(DENSE, layer("Lambda"))), "is a Lambda layer"),
    "a function of another class": (
        layer("ResidualWrapper", residual_fn_type="lambda", residual_fn=["x", None, None]),
        "the layer 'odd' has a residual_fn that is Python code",
    ),
    "a function as a value": (
        layer("Dense", activation={"class_name": "__lambda__", "config": {"value": "x"}}),
        "the layer 'odd' is a Python function",
    ),
    "a compiled part": (
        model(DENSE, compile_config={"loss": {"class_name": "__lambda__", "config": {}}}),
        "the layer 'net' is a Python function",
    ),
    "marshalled code": (layer("Dense", units=[MARSHALLED, None]), "holds marshalled code"),
    "a pickle": (layer("Dense", units=PICKLED), "holds a pickle"),
    "PyTorch's pickle": (layer("TorchModuleWrapper"), "is a pickled PyTorch module"),
    "another model": (layer("TFSMLayer", filepath="/elsewhere"), "loads another SavedModel"),
    "another file": (
        layer("StringLookup", vocabulary="/etc/passwd"),
        "the layer 'odd' reads the file '/etc/passwd'",
    ),
    "a module": (layer("Evil", "evil"), "is a Evil of the module evil, which is not Keras's"),
    "a tokenizer of KerasHub": (
        layer("SentencePieceTokenizer", "keras_hub.src.tokenizers", proto="/etc/passwd"),
        "is a SentencePieceTokenizer of the module keras_hub.src.tokenizers",
    ),
    "a preset of KerasCV": (
        layer("Backbone", "keras_cv.models", "keras_cv.models>Backbone", preset="hf://x"),
        "is a Backbone of the module keras_cv.models",
    ),
    "a builtin": (layer("Dense", activation=function("eval")), "eval of the module builtins"),
    "a function of a module": (
        layer("Dense", activation=function("system", "os")),
        "system of the module os",
    ),
    "one that Keras imports": (
        layer("Dense", activation=function("os.system", "keras.src.utils.io_utils")),
        "names its code by a path: keras.src.utils.io_utils, os.system",
    ),
    "one that Keras has": (
        layer("Dense", activation=function("get_file", "keras.utils")),
        "get_file of the module keras.utils",
    ),
    "one in the place of a class": (
        layer("load_model", "keras.saving"),
        "load_model of the module keras",
    ),
    "an op of TensorFlow": (layer("TFOpLambda", function="io.write_file"), "calls tf.io.write_fil"),
    "an older one": (layer("TFOpLambda", function="compat.v1.py_func"), "calls tf.compat.v1.py_fu"),
    "a message to a file": (layer("SlicingOpLambda", function="print"), "calls tf.print"),
    "an op by itself": (
        layer("TensorFlowOpLayer", node_def={"op": "WriteFile", "name": "w"}),
        "calls TensorFlow's op WriteFile",
    ),
    "a method of a class": (
        layer("ClassMethod", cls_symbol="io.gfile.GFile", method_name="write"),
        "calls tf.io.gfile.GFile",
    ),
    "what methods hide": (layer("InstanceMethod", attr_name="__class__"), "calls __class__"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_code_is_refused_by_name(refuse, name):
    config, message = HOSTILE[name]
    with pytest.raises(ModelError, match=r"Nothing of it was run.*--allow_code") as error:
        refuse(model(DENSE, config))
    assert message in str(error.value)


def test_what_keras_has_itself_is_no_code(refuse):
    refuse(
        model(
            DENSE,
            layer("Custom>Mine", module=None),
            layer("Dense", activation=function("relu"), kernel_initializer="zeros"),
            layer("Dense", activation=function("silu", "keras.src.activations.activations")),
            layer("Add", "keras.ops"),
            layer("FakeQuant", "tfq.keras.layers", "tfq>FakeQuant"),
            layer("QuantizeWrapperV2", "tensorflow_model_optimization.python.core.wrapper"),
            layer("StringLookup", vocabulary=["a", "b" * 40]),
            layer("TFOpLambda", function="math.reduce_mean"),
            layer("TFOpLambda", function="__operators__.add"),
            layer("TFOpLambda", function="compat.v1.nn.conv2d"),
            layer("SlicingOpLambda", function="__operators__.getitem"),
            layer("ClassMethod", cls_symbol="RaggedTensor", method_name="from_row_splits"),
            layer("TensorFlowOpLayer", node_def={"op": "AddV2", "name": "a"}),
            compile_config={"optimizer": layer("Adam", "keras.optimizers")},
        )
    )


def test_what_is_not_loaded_is_not_looked_at(refuse):
    """The loss of the model itself: files are loaded without compiling."""
    refuse({**model(DENSE), "compile_config": {"loss": function("mine", "my_losses")}})


def test_weights_that_are_in_another_file(tmp_path):
    np.arange(4, dtype=np.float32).tofile(tmp_path / "secret")
    for name in ("link", "external", "virtual"):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            group = file.create_group("layers/dense")
            if name == "link":
                group["kernel"] = h5py.ExternalLink("other.h5", "/kernel")
            elif name == "external":
                outside = [(str(tmp_path / "secret"), 0, 16)]
                group.create_dataset("kernel", (4,), np.float32, external=outside)
            else:
                layout = h5py.VirtualLayout((4,), np.float32)
                layout[:] = h5py.VirtualSource("other.h5", "kernel", (4,))
                group.create_virtual_dataset("kernel", layout)
        with pytest.raises(ModelError, match=r"/layers/dense/kernel is .* file"):
            refuse_keras_file(str(path), "m.h5")
        with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
            archive.writestr("config.json", json.dumps(model(DENSE)))
            archive.write(path, "model.weights.h5")
        with pytest.raises(ModelError, match=r"/layers/dense/kernel is .* file"):
            refuse_keras_file(str(tmp_path / "m.keras"), "m.keras")


def test_groups_in_a_circle_end(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        group = file.create_group("a")
        for name in ("b", "c"):
            group[name] = file
        group["far"] = h5py.ExternalLink("other.h5", "/kernel")
    with pytest.raises(ModelError, match=r"/a/far is a link to the file 'other\.h5'"):
        refuse_keras_file(str(tmp_path / "m.h5"), "m.h5")


def test_a_file_that_is_two_formats_at_once(tmp_path):
    """An archive behind an HDF5 file: which is loaded depends on the loader."""
    path = tmp_path / "m.keras"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(model(layer("Lambda")))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", json.dumps(model(DENSE)))
    assert zipfile.is_zipfile(path)
    assert h5py.is_hdf5(path)
    with pytest.raises(ModelError, match="is a Lambda layer"):
        refuse_keras_file(str(path), "m.keras")


def test_damaged_files_are_left_to_the_loaders(tmp_path):
    for content in (b"", b"PK\x03\x04 not quite", b"\x89HDF\r\n\x1a\n" + bytes(40)):
        (tmp_path / "m.h5").write_bytes(content)
        refuse_keras_file(str(tmp_path / "m.h5"), "m.h5")


def test_damage_within_a_file_is_one_error(tmp_path):
    """A loader might read around it, to what was not looked at."""
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("model_weights/dense/kernel", data=np.ones((4, 3), np.float32))
    whole = path.read_bytes()
    assert b"SNOD" in whole
    path.write_bytes(whole.replace(b"SNOD", b"SNOT"))
    with pytest.raises(ModelError, match=r"Cannot read m.h5: the HDF5 in it is damaged"):
        refuse_keras_file(str(path), "m.h5")
