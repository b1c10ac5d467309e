"""Model files and folders of TensorFlow, as one traced function. Imports TensorFlow."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfq.errors import ModelError, UsageError, nearest
from tfq.sources.causes import listed, root_cause
from tfq.sources.keras_archive import member_names, read_member
from tfq.sources.scan_graph import refuse_graph, refuse_saved_model
from tfq.sources.tracing import Entry, trace_graph, trace_keras, trace_signature


def load(request: dict[str, Any]) -> tuple[Entry, list[str]]:
    """The entry point that a request names, and warnings.

    Raises:
      UsageError: there is no such signature.
      ModelError: the file cannot be loaded, or holds code and the request does not allow that.
    """
    kind, path, batch = request["kind"], request["path"], request["batch"]
    shown, trusted = request["shown"], bool(request.get("allow_code"))
    if kind == "saved_model":
        return _saved_model(path, shown, request.get("signature"), batch, trusted)
    if kind in ("keras", "h5"):
        path = _by_its_kind(Path(path), Path(request["scratch"]))
        entry, warnings = _keras_file(path, shown, batch, trusted)
        if not trusted:  # Layers that stand for TensorFlow's ops, whatever they are called.
            refuse_graph(entry.function.graph.as_graph_def(), shown)
        return entry, warnings
    return _frozen_graph(path, shown, batch, trusted), []


def _saved_model(
    path: str, shown: str, signature: str | None, batch: int, trusted: bool
) -> tuple[Entry, list[str]]:
    try:
        if not trusted:
            refuse_saved_model(path, shown)
        loaded = tf.saved_model.load(path)
    except ModelError:
        raise
    except Exception as e:  # Any parsing or registration error of TensorFlow.
        raise ModelError(
            f"The SavedModel {shown} cannot be loaded: {root_cause(e)} Export it again."
        ) from None
    signatures = dict(loaded.signatures)
    if not signatures:
        raise ModelError(
            f"The SavedModel {shown} has no signatures. Save it with signatures= "
            "(tf.saved_model.save) or with model.export (Keras)."
        )
    warnings: list[str] = []
    if signature is None:
        signature = _default_key(list(signatures), shown)
        others = [k for k in signatures if k not in (signature, "serve", "serving_default")]
        if others:
            warnings.append(
                f"Converted the signature {signature!r}; the SavedModel also has {listed(others)}."
            )
    elif signature not in signatures:
        raise UsageError(
            f"The SavedModel {shown} has no signature {signature!r}; it has: "
            f"{', '.join(signatures)}.{nearest(signature, signatures)}"
        )
    entry = trace_signature(signatures[signature], key=signature, batch=batch, owner=loaded)
    return entry, warnings


def _default_key(keys: list[str], shown: str) -> str:
    for key in ("serving_default", "serve"):
        if key in keys:
            return key
    if len(keys) == 1:
        return keys[0]
    raise UsageError(
        f"The SavedModel {shown} has several signatures and none is 'serving_default': "
        f"{', '.join(keys)}. Choose one with signature=."
    )


def _by_its_kind(path: Path, scratch: Path) -> str:
    """The file under a name that Keras knows: it takes no MODEL.H5 and no model.Keras."""
    known = path.suffix.lower()
    if path.suffix == known:
        return str(path)
    link = scratch / f"model{known}"
    try:
        link.symlink_to(path)
    except OSError:  # A disk, or a user, without links.
        shutil.copyfile(path, link)
    return str(link)


def _keras_file(path: str, shown: str, batch: int, trusted: bool) -> tuple[Entry, list[str]]:
    """Keras 3 first, then tf_keras: old DepthwiseConv2D layers carry a `groups` that Keras 3
    refuses, and files saved by tf_keras may hold layers that Keras 3 has no more."""
    import keras

    _register_layers(path, shown)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=not trusted)
    except Exception as e:  # Whatever a layer's from_config raises.
        first = root_cause(e)
    else:
        return trace_keras(model, batch=batch), []
    if _written_by_keras_3(path, shown):
        raise ModelError(
            f"{shown} cannot be loaded: {first} For custom layers, pass the model object itself, "
            "or the SavedModel that model.export writes."
        )
    try:
        import tf_keras
    except ImportError:
        raise ModelError(
            f"Keras 3 cannot load {shown}: {first} If an older Keras wrote the file, "
            "install tf_keras."
        ) from None
    try:
        with _wrappers_known(path):
            model = tf_keras.models.load_model(path, compile=False, safe_mode=not trusted)
    except Exception as e:
        second = root_cause(e)
        raise ModelError(
            f"{shown} cannot be loaded. Keras 3: {first} tf_keras: {second} For custom layers, "
            "pass the model object itself, or the SavedModel that model.export writes."
        ) from None
    return trace_keras(model, batch=batch), [
        f"Keras 3 cannot load {shown} ({first.rstrip('.')}); loaded it with tf_keras."
    ]


def _register_layers(path: str, shown: str) -> None:
    """Imports `tfq.keras` for a file that names its layers: importing it is what tells Keras of
    them, and files without them need not wait for it. By name, because it stands above this
    package, which it calls to read its data.
    """
    content = read_member(path, "config.json", shown)
    if content is None:  # An HDF5 file, whatever it is called.
        content = Path(path).read_bytes()
    if b"tfq>" in content:
        for name in ("tfq.keras", "tfq.keras.batch_norm"):
            importlib.import_module(name)


@contextlib.contextmanager
def _wrappers_known(path: str) -> Iterator[None]:
    """Lets tf_keras load the wrappers of tensorflow-model-optimization that a file names."""
    content = b"" if member_names(path, path) else Path(path).read_bytes()
    if not any(name in content for name in (b"QuantizeWrapper", b"PruneLow", b"ClusterWeights")):
        yield
        return
    # By name: the package has no types, and mypy would follow it into all of TensorFlow.
    tfmot: Any = importlib.import_module("tensorflow_model_optimization")
    with (
        tfmot.quantization.keras.quantize_scope(),
        tfmot.sparsity.keras.prune_scope(),
        tfmot.clustering.keras.cluster_scope(),
    ):
        yield


def _written_by_keras_3(path: str, shown: str) -> bool:
    """Whether a `.keras` archive says so; tf_keras has nothing to add then."""
    try:
        metadata = json.loads(read_member(path, "metadata.json", shown) or b"")
    except ValueError:
        return False
    return isinstance(metadata, dict) and str(metadata.get("keras_version", "")).startswith("3")


def _frozen_graph(path: str, shown: str, batch: int, trusted: bool) -> Entry:
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(Path(path).read_bytes())
    except Exception:  # google.protobuf's DecodeError, wherever that package lives.
        raise ModelError(
            f"{shown} is not a frozen TensorFlow graph. Export it again, or pass a SavedModel "
            "folder."
        ) from None
    if not trusted:
        refuse_graph(graph, shown)
    return trace_graph(graph, batch=batch, where=shown)
