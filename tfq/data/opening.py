"""`data=` and `--data`: everything that samples can be given as."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfq.data import tfrecord
from tfq.data.arrays import npy_column, npz_columns, open_npy, open_npz
from tfq.data.fit import Fitter
from tfq.data.image_files import list_csv, list_folder, open_csv, open_folder
from tfq.data.images import DataOptions
from tfq.data.objects import open_object
from tfq.data.source import Reading, SampleSource
from tfq.data.synthetic import synthetic
from tfq.errors import DataError, UsageError, nearest
from tfq.graph.interface import ArgSpec

SAVED_NAME = os.path.join("assets.extra", "tfq_representative_data.npz")
"""Where a SavedModel folder keeps its own samples."""

_CALLABLE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
_FORMS = (
    "a .npz, .npy or .tfrecord file, a folder of images, a .csv file of paths and labels, "
    "package.module:callable, or 'synthetic'"
)


def open_data(
    data: Any,
    inputs: Sequence[ArgSpec],
    *,
    options: DataOptions | None = None,
    limit: int | None = None,
) -> SampleSource:
    """Opens samples for a model with `inputs`, without reading more than headers or one element.

    Args:
      data: one of
        - a path: `.npz` (arrays named as the inputs or their tensors; `y` is labels, `y/NAME` those
          of an output), `.npy`, `.tfrecord`, a folder of images (sub-folders are classes), a `.csv`
          of paths of images and labels or masks, or a SavedModel folder with samples inside;
        - "package.module:callable", imported with the current folder on the path and called
          without arguments; it returns any of the following;
        - an array, a dict of arrays, a list of arrays (one for each input), samples first;
        - a `tf.data.Dataset`, a generator or another iterable of samples or batches: arrays, lists
          in the order of the inputs, dicts by name, `(x, y)` with labels or a dict of them by
          output;
        - a function that returns one of these, such as TensorFlow Lite's
          `representative_dataset`;
        - "synthetic": 64 random samples, which calibrate nothing.
      inputs: the model's inputs, with static shapes.
      options: how images become arrays.
      limit: reads at most so many samples: the first ones, of images in a folder or a `.csv`
        evenly picked ones.

    Raises:
      DataError: there is no such data, it is damaged, or it does not fit the model.
      UsageError: options that contradict each other or the model, an unknown module or callable.
    """
    _check_options(data, options, limit)
    fitter = Fitter(inputs)
    options = options or DataOptions()
    if isinstance(data, str) and data == "synthetic":
        return synthetic(inputs) if limit is None else synthetic(inputs, min(limit, 64))
    if isinstance(data, str | os.PathLike):
        return SampleSource(_open_name(os.fspath(data), fitter, options, limit), fitter, limit)
    return SampleSource(open_object(data, fitter, limited=limit is not None), fitter, limit)


def _check_options(data: Any, options: DataOptions | None, limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise UsageError(f"The limit of samples must be at least 1. Received: {limit}.")
    if options is not None and not _may_hold_images(data):
        name = os.fspath(data) if isinstance(data, str | os.PathLike) else type(data).__name__
        raise UsageError(
            f"data_options (--resize, --crop, --scale, --mean) are for images, but "
            f"--data={name} holds no images: it is taken as it is. Leave them out."
        )


def _may_hold_images(data: Any) -> bool:
    """Whether what `data` names could be encoded images: a folder or list of them, or TFRecord."""
    if not isinstance(data, str | os.PathLike):
        return False
    path = Path(data)
    if os.path.isdir(path):
        return saved_data_path(path) is None
    return not (path.suffix in (".npz", ".npy") or str(data) == "synthetic" or ":" in str(data))


def saved_data_path(saved_model_dir: str | os.PathLike[str]) -> Path | None:
    """The samples inside a SavedModel folder, or None if it has none."""
    path = Path(saved_model_dir) / SAVED_NAME
    return path if os.path.isfile(path) else None


def _open_name(name: str, fitter: Fitter, options: DataOptions, limit: int | None) -> Reading:
    path = Path(name)
    if os.path.isdir(path):
        saved = saved_data_path(path)
        return open_npz(saved, fitter) if saved else open_folder(path, fitter, options, limit)
    if os.path.exists(path):
        if path.suffix == ".npz":
            return open_npz(path, fitter)
        if path.suffix == ".npy":
            return open_npy(path, fitter)
        if path.suffix == ".csv":
            return open_csv(path, fitter, options, limit)
        if tfrecord.FILE_NAME.search(path.name):
            return tfrecord.open_tfrecord(path, fitter, options)
        raise _unknown(name)
    if _CALLABLE.fullmatch(name):
        return open_object(_import(name), fitter, name, limit is not None)
    raise _nothing_at(name)


def check_data(data: Any, *, options: DataOptions | None = None, limit: int | None = None) -> None:
    """Fails now for what is wrong with `data` whatever the model is, before one is loaded for it.

    Files are read as far as `open_data` reads them, a callable is imported and not called; objects
    are left alone.

    Args:
      data, options, limit: as for `open_data`.

    Raises:
      DataError: there is no such data, it is empty or damaged.
      UsageError: options that contradict the data, an unknown module or callable.
    """
    _check_options(data, options, limit)
    if not isinstance(data, str | os.PathLike) or data == "synthetic":
        return
    name = os.fspath(data)
    path = Path(name)
    if os.path.isdir(path):
        saved = saved_data_path(path)
        if saved is None:
            list_folder(path)
        else:
            npz_columns(saved)
    elif os.path.exists(path):
        if path.suffix == ".npz":
            npz_columns(path)
        elif path.suffix == ".npy":
            npy_column(path)
        elif path.suffix == ".csv":
            list_csv(path)
        elif tfrecord.FILE_NAME.search(path.name):
            tfrecord.first_features(path)
        else:
            raise _unknown(name)
    elif _CALLABLE.fullmatch(name):
        _import(name)
    else:
        raise _nothing_at(name)


def _import(name: str) -> Callable[..., Any]:
    return import_callable(name, "data", "returns or yields samples")


def _unknown(name: str) -> DataError:
    return DataError(f"{name} is of no known kind. Give {_FORMS}. Received: {Path(name).name}.")


def _nothing_at(name: str) -> DataError:
    path = Path(name)
    close = nearest(name, ["synthetic"])
    if not close:
        with contextlib.suppress(OSError):  # There may be no such folder to look for it in.
            close = nearest(path.name, os.listdir(path.parent))
    return DataError(f"There is no data at {name!r}. Give {_FORMS}.{close}")


def import_callable(name: str, what: str, does: str) -> Callable[..., Any]:
    """What "package.module:callable" names, imported with the current folder on the path.

    Args:
      name: module and callable.
      what: it is for, in messages: "data".
      does: what it has to do, in messages: "returns or yields samples".

    Raises:
      UsageError: `name` is of another form, there is no such module or attribute, or it is not
        callable.
      DataError: the module fails while it is imported.
    """
    match = _CALLABLE.fullmatch(name)
    if match is None:
        raise UsageError(f"The {what} {name!r} is not of the form package.module:callable.")
    module_name, attribute = match.groups()
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)  # It stays: the callable may import more when it is called.
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as e:
        if isinstance(e, ModuleNotFoundError) and e.name and module_name.startswith(e.name):
            raise UsageError(
                f"There is no module {e.name!r} for the {what} {name}. "
                f"Modules are looked for in the current folder and among those installed."
            ) from None
        raise DataError(
            f"Module {module_name} of the {what} cannot be imported: {type(e).__name__}: {e}"
        ) from e
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [n for n in dir(found) if not n.startswith("_")]
            raise UsageError(f"{module_name} has no {part!r}.{nearest(part, names)}")
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(
            f"{name} is not callable; it is a {type(found).__name__}. Name a function that {does}."
        )
    return found
