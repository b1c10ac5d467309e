"""Keras files, looked at before Keras loads them: code, and names of code, are refused.

A `.keras` archive or a `.h5` file is a configuration (JSON) and arrays. The configuration may hold
Python code (the function of a Lambda, marshalled) and names that loaders look up, in modules that
tf_keras imports whatever they are. Keras 3 refuses part of that and tf_keras none in a `.h5`, so
that is decided here, for both, without either.
"""

from __future__ import annotations

import base64
import binascii
import builtins
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from tfq.errors import ModelError
from tfq.sources.causes import places
from tfq.sources.keras_archive import member_names, read_member

# Classes of Keras and tf_keras whose configuration is a program, or the name of a file with one.
_PROGRAMS = {
    "FlaxLayer": "calls a Python function",
    "JaxLayer": "calls a Python function",
    "Lambda": "is a Lambda layer, whose function is Python code",
    "TFSMLayer": "loads another SavedModel",
    "TorchModuleWrapper": "is a pickled PyTorch module",
    "__lambda__": "is a Python function",
}
# Values that are not objects of a class, and what Keras calls them.
_VALUES = {
    "__bytes__", "__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__",
    "__tuple__",
}  # fmt: skip
# Packages that a configuration may name: loading it imports them. Those of Keras's that are about
# one domain (keras_hub) are not among them: their objects read files and presets by many names.
_PACKAGES = {"keras", "tensorflow_model_optimization", "tf_keras", "tfq"}
# Modules of Keras whose functions compute; others read files, fetch, or load models.
_FUNCTIONS = re.compile(
    r"(tf_)?keras(\.src)?\."
    r"(activations|constraints|initializers|losses|metrics|nn|ops|random|regularizers)\b"
)
# Settings that name a file to read.
_PATHS = {"ckpt_to_load_from", "filepath", "vocabulary", "vocabulary_file"}

# Functions of TensorFlow that functional models of tf_keras hold by name (TFOpLambda): those of
# whole modules, and single ones.
_TENSORFLOW = re.compile(
    r"(__operators__|bitwise|image|keras\.activations|keras\.backend|linalg|math|nn|quantization"
    r"|ragged|random|sets|signal|sparse|strings)\.[\w.]+|debugging\.(assert|check_numerics)\w*"
)
_TENSORFLOW_NAMES = """
    abs acos acosh add add_n approx_top_k argmax argmin argsort as_string asin asinh
    assert_equal assert_greater assert_less assert_rank atan atan2 atanh batch_to_space
    bitcast boolean_mask broadcast_dynamic_shape broadcast_static_shape broadcast_to cast ceil
    clip_by_global_norm clip_by_norm clip_by_value complex concat constant
    convert_to_tensor cos cosh cumprod cumsum div div_no_nan divide dynamic_partition
    dynamic_stitch edit_distance eig eigvals einsum ensure_shape equal erf exp expand_dims
    extract_volume_patches eye fill fingerprint floor floor_div floordiv floormod gather
    gather_nd greater greater_equal guarantee_const histogram_fixed_width identity identity_n
    is_tensor less less_equal linspace log log_sigmoid logical_and logical_not logical_or
    logical_xor matmul matrix_square_root maximum meshgrid minimum mod multiply negative norm
    not_equal one_hot ones ones_like pad parallel_stack pow range rank realdiv reciprocal
    reduce_all reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod
    reduce_sum repeat reshape reverse reverse_sequence rint roll round rsqrt saturate_cast
    scalar_mul scatter_nd searchsorted sequence_mask shape shape_n sigmoid sign sin sinh size
    slice sort space_to_batch space_to_batch_nd space_to_depth split sqrt square
    squared_difference squeeze stack stop_gradient strided_slice subtract tan tanh
    tensor_scatter_nd_add tensor_scatter_nd_max tensor_scatter_nd_min tensor_scatter_nd_sub
    tensor_scatter_nd_update tensordot tile to_double to_float to_int32 to_int64 top_k
    transpose truediv truncatediv truncatemod unique unique_with_counts unravel_index unstack
    where zeros zeros_like
"""
# And their ops that it may hold (TensorFlowOpLayer, of TensorFlow 2.0 to 2.3).
_TENSORFLOW_OPS = """
    Abs Add AddN AddV2 All Any ArgMax ArgMin AvgPool BatchMatMul BatchMatMulV2 BatchToSpaceND
    BiasAdd Cast Ceil ClipByValue ConcatV2 Conv2D Cos Cumprod Cumsum DepthToSpace Div DivNoNan
    Einsum Elu Equal Erf Exp ExpandDims Expm1 Fill Floor FloorDiv FloorMod Gather GatherNd
    GatherV2 Greater GreaterEqual Identity LRN LeakyRelu Less LessEqual Log Log1p LogSoftmax
    LogicalAnd LogicalNot LogicalOr MatMul Max MaxPool Maximum Mean Min Minimum MirrorPad Mul Neg
    NotEqual OneHot OnesLike Pack Pad PadV2 Pow Prod Range Rank RealDiv Reciprocal Relu Relu6
    Reshape ResizeBilinear ResizeNearestNeighbor ReverseV2 Rint Round Rsqrt Select SelectV2 Selu
    Shape Sigmoid Sign Sin Size Slice Softmax Softplus Softsign SpaceToBatchND SpaceToDepth Split
    SplitV Sqrt Square SquaredDifference Squeeze StopGradient StridedSlice Sub Sum Tan Tanh Tile
    TopKV2 Transpose Unpack Where ZerosLike
"""
_TENSORFLOW_CLASSES = {"RaggedTensor", "RowPartition", "SparseTensor", "Tensor"}


# What h5py raises where a file is damaged.
_DAMAGED = (OSError, RuntimeError, LookupError, ValueError, TypeError)


def refuse_keras_file(path: str, shown: str) -> None:
    """Raises ModelError if loading the `.keras` or `.h5` file would run or read what it names.

    What loading without compiling leaves alone is not looked at: the losses, metrics and optimizer
    that the model was trained with.

    Raises:
      ModelError: the message names the layers; or an archive, or what is in an HDF5 file, is
        damaged. Another damaged file is left to the loaders.
    """
    # By content: loaders look at it too, and one file can be both.
    found = [*_archive(path, shown), *_hdf5(path, shown)]
    if found:
        raise ModelError(
            f"{shown} holds code, or names code: {places(found)}. Nothing of it was run. Say it "
            "with Keras's own layers, pass the model object itself, or the SavedModel that "
            "model.export writes; or, if you trust the file, say --allow_code."
        )


def _archive(path: str, shown: str) -> Iterator[str]:
    """What cannot be read is an error: a loader may read around the damage."""
    for name in member_names(path, shown):
        if name.endswith(".h5"):
            yield from _hdf5(io.BytesIO(read_member(path, name, shown) or b""), shown)
        elif name == "config.json":
            yield from _text(read_member(path, name, shown) or b"")


def _hdf5(file: Any, shown: str) -> Iterator[str]:
    import h5py

    try:
        opened = h5py.File(file, "r")
    except OSError:
        return
    with opened:
        try:
            config = opened.attrs.get("model_config")
            if config is not None:
                yield from _text(config if isinstance(config, bytes) else str(config))
            yield from _links(opened)
        except _DAMAGED as e:
            said = str(e.args[0] if e.args else e).rstrip(".")
            raise ModelError(
                f"Cannot read {shown}: the HDF5 in it is damaged ({said}). Copy it again, or save "
                "the model again."
            ) from None


def _links(file: Any) -> Iterator[str]:
    """Arrays that are in other files, which loading would read."""
    import h5py

    pending, seen = [("", file)], set()
    while pending:
        where, group = pending.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:  # Hard links can make a circle.
            continue
        seen.add(address)
        for name in group:
            place = f"{where}/{name}"
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield f"{place} is a link to the file {link.filename!r}"
                continue
            try:
                item = group[name]
            except (KeyError, OSError):
                continue
            if isinstance(item, h5py.Group):
                pending.append((place, item))
            elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                yield f"{place} is an array in another file"


def _text(config: str | bytes) -> Iterator[str]:
    try:
        parsed = json.loads(config)
    except ValueError:
        return  # The loaders read it in the same way.
    if isinstance(parsed, dict):
        parsed.pop("compile_config", None)
    yield from _walk(parsed, "the model")


def _walk(node: Any, owner: str) -> Iterator[str]:
    """What is code in a configuration; `owner` is the layer that a part belongs to."""
    if isinstance(node, list):
        for item in node:
            yield from _walk(item, owner)
    elif isinstance(node, str):
        if serialized := _serialized(node):
            yield f"{owner} holds {serialized}"
    elif isinstance(node, dict):
        if "class_name" in node:
            config = node.get("config")
            name = config.get("name") if isinstance(config, dict) else None
            if isinstance(name, str):
                owner = f"the layer {name!r}"
            wrong = _object(node, config)
            if wrong:
                yield f"{owner} {wrong}"
                return
        for key, value in node.items():
            if key.endswith("_type") and value == "lambda":
                yield f"{owner} has a {key.removesuffix('_type')} that is Python code"
            elif key in _PATHS and isinstance(value, str) and value:
                yield f"{owner} reads the file {value!r}"
            else:
                yield from _walk(value, owner)


def _object(node: dict[str, Any], config: Any) -> str:
    """What is wrong with an object of a configuration, or ""."""
    kind = node["class_name"]
    names = [kind, node.get("registered_name"), node.get("spec_name")]
    names += [config] if kind == "function" else []
    names = [n.rpartition(">")[2] for n in names if isinstance(n, str)]
    for name in names:
        if program := _PROGRAMS.get(name.rpartition(".")[2]):
            return program
    if kind in _VALUES:
        return ""
    if call := _tensorflow_layer(names[0] if names else "", config):
        return call
    module = node.get("module")
    if not isinstance(module, str) or not names:
        return ""
    called = config if kind == "function" and isinstance(config, str) else str(kind)
    if any("." in n for n in names):
        return f"names its code by a path: {module}, {called}"
    if kind == "function":
        own = module == "builtins" and not any(hasattr(builtins, n) for n in names)
        wrong = not own and not _FUNCTIONS.match(module)
    elif kind == "__typespec__":
        wrong = not (module.startswith("tensorflow.") and names[-1].endswith("Spec"))
    else:
        wrong = module.split(".")[0] not in _PACKAGES or not names[0].lstrip("_")[:1].isupper()
    return f"is a {called} of the module {module}, which is not Keras's" if wrong else ""


def _tensorflow_layer(name: str, config: Any) -> str:
    """The same for layers of tf_keras that stand for one call of TensorFlow."""
    if not isinstance(config, dict):
        return ""
    if name in ("TFOpLambda", "SlicingOpLambda"):
        called = str(config.get("function"))
        plain = called.removeprefix("compat.v1.")
        if not _TENSORFLOW.fullmatch(plain) and plain not in _TENSORFLOW_NAMES.split():
            return f"calls tf.{called}"
    if name == "ClassMethod" and str(config.get("cls_symbol")) not in _TENSORFLOW_CLASSES:
        return f"calls tf.{config.get('cls_symbol')}"
    if name in ("ClassMethod", "InstanceMethod", "InstanceProperty"):
        called = str(config.get("method_name", config.get("attr_name")))
        if called.startswith("_"):
            return f"calls {called}"
    if name == "TensorFlowOpLayer":
        node = config.get("node_def")
        op = str(node.get("op")) if isinstance(node, dict) else ""
        if op not in _TENSORFLOW_OPS.split():
            return f"calls TensorFlow's op {op}"
    return ""


def _serialized(text: str) -> str:
    """ "marshalled code" or "a pickle", if that is what a text in base64 is, or ""."""
    if len(text) < 24 or not re.fullmatch(r"[A-Za-z0-9+/\s]+={0,2}\s*", text):
        return ""
    try:
        content = base64.b64decode(text)
    except binascii.Error:
        return ""
    # A code object of marshal: its type, and the count of arguments in 32 bits.
    if content[:1] in (b"c", b"\xe3") and content[2:5] == b"\0\0\0":
        return "marshalled code"
    return "a pickle" if re.match(rb"\x80[\2-\5]", content) and content[-1:] == b"." else ""
