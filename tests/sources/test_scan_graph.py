"""What a SavedModel may do for its own variables and tables, and what it may not."""

import shutil
from pathlib import Path

import pytest

from tfq.errors import ModelError

pytestmark = pytest.mark.slow

ASIDE = "/elsewhere/file"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """SavedModels of TensorFlow 2 and of the first, with variables and a table from a file."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("models")
    (folder / "words.txt").write_text("1\n2\n3\n")

    def table():
        line = tf.lookup.TextFileIndex.WHOLE_LINE
        number = tf.lookup.TextFileIndex.LINE_NUMBER
        words = str(folder / "words.txt")
        start = tf.lookup.TextFileInitializer(words, tf.int64, line, tf.int64, number)
        return tf.lookup.StaticHashTable(start, -1)

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.table, self.w = table(), tf.Variable(tf.ones((4,)))

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.int64, name="x")])
        def f(self, x):
            tf.print("seen")
            return {"y": tf.gather(self.w, self.table.lookup(x)) + tf.random.uniform((1,))}

    module = Module()
    tf.saved_model.save(module, str(folder / "two"), signatures={"serving_default": module.f})
    again = tf.saved_model.load(str(folder / "two"))
    tf.saved_model.save(again, str(folder / "two_again"), signatures=again.signatures)
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.int64, (None,), name="x")
        y = tf.identity(tf.gather(v1.get_variable("w", (4,)), table().lookup(x)), name="y")
        session.run(v1.global_variables_initializer())
        v1.train.Saver()  # Training's own, which files of the first TensorFlow have left in them.
        builder = v1.saved_model.Builder(str(folder / "one"))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": v1.saved_model.predict_signature_def({"x": x}, {"y": y})},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()
    return folder


def refuse(folder):
    from tfq.sources.scan_graph import refuse_saved_model

    refuse_saved_model(str(folder), folder.name)


@pytest.fixture
def edit(models, tmp_path):
    """Opens a copy of a model, to be written back by `refused`."""
    from tensorflow.core.protobuf import saved_model_pb2

    class Edited:
        def __init__(self, name):
            self.path = Path(shutil.copytree(models / name, tmp_path / name))
            self.proto = saved_model_pb2.SavedModel()
            self.proto.ParseFromString((self.path / "saved_model.pb").read_bytes())
            self.meta = self.proto.meta_graphs[0]
            self.nodes = self.meta.graph_def.node

        def function(self, part):
            functions = self.meta.graph_def.library.function
            return next(f for f in functions if part in f.signature.name)

        def node(self, op, nodes=None):
            return next(n for n in (self.nodes if nodes is None else nodes) if n.op == op)

        def text(self, nodes, name="aside"):
            """A node that holds the name of a file that is not the model's."""
            node = nodes.add(name=name, op="Const")
            node.attr["dtype"].type = 7
            node.attr["value"].tensor.dtype = 7
            node.attr["value"].tensor.tensor_shape.SetInParent()
            node.attr["value"].tensor.string_val.append(ASIDE.encode())
            return name

        def refused(self, message):
            (self.path / "saved_model.pb").write_bytes(self.proto.SerializeToString())
            with pytest.raises(ModelError, match=message):
                refuse(self.path)

    return Edited


@pytest.mark.parametrize("name", ["two", "two_again", "one"])
def test_its_own_variables_and_tables_are_allowed(models, name):
    refuse(models / name)


def test_text_form(models, tmp_path, edit):
    from google.protobuf import text_format

    model = edit("two")
    model.function("inference_f_").node_def.add(name="odd", op="ReadFile", input=["x"])
    (model.path / "saved_model.pb").unlink()
    (model.path / "saved_model.pbtxt").write_text(text_format.MessageToString(model.proto))
    with pytest.raises(ModelError, match=r"ReadFile \(node 'odd' of the function '__inference_f_"):
        refuse(model.path)


@pytest.mark.parametrize(
    "op",
    [
        "CacheDatasetV2", "DatasetFromGraph", "DebugIdentityV2", "EagerPyFunc", "MatchingFiles",
        "PyFunc", "PyFuncStateless", "ReadFile", "RemoteCall", "RpcClient", "Save", "SaveV2",
        "TFRecordDatasetV2", "WriteFile", "WriteSummary", "XlaCustomCallV2",
    ],
)  # fmt: skip
def test_ops_that_reach_outside(edit, op):
    model = edit("two")
    model.function("inference_f_").node_def.add(name="odd", op=op)
    model.refused(rf"{op} \(node 'odd' of the function")


def test_messages_to_a_file(edit):
    model = edit("two")
    model.node("PrintV2", model.function("inference_f_").node_def).attr[
        "output_stream"
    ].s = b"file:///x"
    model.refused(r"PrintV2 \(node 'PrintV2' of the function")


def test_a_signature_that_saves(edit):
    """The saver's own function, called by something else than the saver."""
    model = edit("two")
    saver = model.function("traced_save").signature.name
    call = model.function("inference_f_").node_def.add(name="c", op="StatefulPartitionedCall")
    call.attr["f"].func.name = saver
    model.refused(r"SaveV2 \(node 'SaveV2' of the function '__inference__traced_save")


def test_a_saver_that_takes_the_place_of_a_function(edit):
    """TensorFlow swaps functions that say they implement the same."""
    model = edit("two")
    model.function("traced_save").attr["api_implements"].s = b"f"
    model.refused(r"SaveV2 \(node 'SaveV2' of")


def test_tables_from_other_files(edit):
    model = edit("two")
    function = model.function("initializer")
    table = model.node("InitializeTableFromTextFileV2", function.node_def)
    table.input[1] = model.text(function.node_def) + ":output:0"
    model.refused(r"InitializeTableFromTextFileV2 \(node .* of the function '__inference__init")


def test_a_table_whose_argument_is_not_the_asset(edit):
    model = edit("two")
    concrete = model.meta.object_graph_def.concrete_functions
    (name,) = [n for n in concrete if "initializer" in n]
    kinds = [n.WhichOneof("kind") for n in model.meta.object_graph_def.nodes]
    bound = concrete[name].bound_inputs
    bound[[kinds[i] for i in bound].index("asset")] = kinds.index("constant")
    model.refused(r"InitializeTableFromTextFileV2 \(node")


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "../assets.extra/x"])
def test_assets_outside_of_the_folder(edit, name):
    model = edit("two")
    model.meta.asset_file_def[0].filename = name
    model.refused(rf"the asset '{name}', which is a file outside of its assets")


def test_assets_that_are_links(models, edit):
    model = edit("two")
    (path,) = (model.path / "assets").iterdir()
    path.unlink()
    path.symlink_to(models / "words.txt")
    model.refused(r"the asset 'words.txt', which is a file outside of its assets")


def test_the_first_tensorflow_restores_its_own_variables_alone(edit):
    model = edit("one")
    restore = model.meta.saver_def.restore_op_name.rpartition("/")[0] + "/RestoreV2"
    node = next(n for n in model.nodes if n.name == restore)
    node.input[0] = model.text(model.nodes)
    model.refused(rf"RestoreV2 \(node '{restore}'\)")


@pytest.mark.parametrize("where", ["restoring", "signature", "variable", "main_op"])
def test_the_first_tensorflow_does_not_save_while_loading(edit, where):
    """A saver's node that runs together with what the loader runs."""
    model = edit("one")
    saves = model.node("SaveV2").name
    if where == "restoring":
        restore = model.meta.saver_def.restore_op_name
        next(n for n in model.nodes if n.name == restore).input.append(f"^{saves}")
    elif where == "signature":
        next(n for n in model.nodes if n.name == "y").input.append(f"^{saves}")
    elif where == "variable":
        collection = model.meta.collection_def["variables"].bytes_list
        initial = next(n for n in model.nodes if n.op == "RandomUniform").name
        assert any(initial.split("/")[0].encode() in v for v in collection.value)
        next(n for n in model.nodes if n.name == "w/Initializer/random_uniform").input.append(
            f"^{saves}"
        )
    else:
        (name,) = model.meta.collection_def["saved_model_main_op"].node_list.value
        next(n for n in model.nodes if n.name == name).input.append(f"^{saves}")
    model.refused(rf"SaveV2 \(node '{saves}'\)")


def test_the_list_names_ops_that_tensorflow_has(models):
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session as session

    from tfq.sources import allowed_ops

    ops = op_def_pb2.OpList.FromString(session.TF_GetBuffer(session.TF_GetAllOpList()))
    known = {op.name: op for op in ops.op}
    stateful = {n for names in allowed_ops._STATEFUL.values() for n in names.split()}
    assert {n for n in stateful if not (n in known and known[n].is_stateful)} == set()
    texts = {n for names in allowed_ops._WITH_TEXT.values() for n in names.split()}
    assert texts - set(known) == set()
    assert {n for n in texts if known[n].is_stateful} == set()
