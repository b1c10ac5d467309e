"""From what a reader delivers to what a model takes: names, shapes, dtypes and finiteness.

Readers yield `Element`s: arrays by input name, one sample each or a batch of any size. A `Fitter`
turns them into `Row`s, one sample each and checked, so that no reader checks values of its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfq.data.labels import LABEL_KEYS, rows_of
from tfq.errors import DataError, nearest
from tfq.graph.interface import ArgSpec, share_batch

INPUT_DTYPES = (
    *("float16", "float32", "float64", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)


@dataclasses.dataclass(frozen=True)
class Element:
    """What a reader delivers at once: one sample or a batch of them.

    Attributes:
      arrays: `ArgSpec.name` -> an array or something `np.asarray` understands.
      label: the label (of a batch: one per row), a dict of these by output, or None.
      where: names the place for error messages where the sample number says too little (a file).
    """

    arrays: Mapping[str, Any]
    label: Any = None
    where: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """One checked sample without a batch dimension; the arrays are copies in the model's dtype."""

    inputs: dict[str, np.ndarray]
    label: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class RawRows:
    """Consecutive samples of the right shape whose values are not checked or converted yet.

    Attributes:
      arrays: `ArgSpec.name` -> [count, *row shape] of any dtype of real numbers.
      labels: one for each row, or None.
      count: how many samples.
      where: as in `Element`.
    """

    arrays: Mapping[str, np.ndarray]
    labels: Sequence[np.ndarray] | np.ndarray | None
    count: int
    where: str = ""

    def part(self, start: int, stop: int) -> RawRows:
        """Rows `start` to `stop` (exclusive), without a copy."""
        arrays = {name: array[start:stop] for name, array in self.arrays.items()}
        labels = None if self.labels is None else self.labels[start:stop]
        return RawRows(arrays, labels, min(stop, self.count) - start, self.where)

    def copy(self) -> RawRows:
        """The same rows in memory of their own (labels of single rows are copies already)."""
        arrays = {name: np.array(array, order="C") for name, array in self.arrays.items()}
        return dataclasses.replace(self, arrays=arrays)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays in bytes."""
        size = sum(a.nbytes for a in self.arrays.values())
        if isinstance(self.labels, np.ndarray):
            return size + self.labels.nbytes
        return size + sum(a.nbytes for a in self.labels or ())


def aliases(spec: ArgSpec) -> tuple[str, ...]:
    """The names under which data may refer to an input, the strongest first."""
    bare = spec.tensor_name.removesuffix(":0")
    return (spec.name, spec.tensor_name, bare, bare.removeprefix("serving_default_"))


def bind_labels(fields: Iterable[str], outputs: Sequence[ArgSpec], what: str) -> dict[str, str]:
    """Of labels by output (`labels`), `ArgSpec.name` -> field, in the model's order.

    Args:
      fields: the names in the data, each that of an output or of its tensor.
      outputs: the model's.
      what: names the model in errors, "the model".

    Raises:
      DataError: a field is of no output, or two are of one.
    """
    found: dict[str, str] = {}
    for field in fields:
        spec = next((s for s in outputs if field in aliases(s)), None)
        names = [s.name for s in outputs]
        if spec is None:
            raise DataError(
                f"There are labels for {field!r}, which is no output of {what}. Name labels as "
                f"the outputs: {', '.join(names)}.{nearest(field, names)}"
            )
        if spec.name in found:
            raise DataError(
                f"The labels {found[spec.name]!r} and {field!r} are of the same output, "
                f"{spec.name!r}. Leave one out."
            )
        found[spec.name] = field
    return {s.name: found[s.name] for s in outputs if s.name in found}


def bind(
    keys: Iterable[str],
    inputs: Sequence[ArgSpec],
    what: str,
    *,
    label_keys: Sequence[str] = LABEL_KEYS,
    extra_allowed: bool = False,
) -> tuple[dict[str, str], str | None]:
    """Finds out which of the data's names means which input, and which one holds labels.

    A model with one input takes the only array that is not labels, whatever its name.

    Args:
      keys: the names in the data.
      inputs: the model's inputs.
      what: the data's description, for error messages.
      label_keys: names that mean labels unless an input is called so. All but "y" may also be the
        name of a model's only data.
      extra_allowed: names that belong to nothing are ignored instead of refused.

    Returns:
      `ArgSpec.name` -> key, and the key of the labels or None.

    Raises:
      DataError: an input has no data, or a name belongs to nothing.
    """
    left = list(dict.fromkeys(keys))
    bound: dict[str, str] = {}
    for rank in range(4):
        for spec in inputs:
            alias = aliases(spec)[rank]
            if spec.name not in bound and alias in left:
                bound[spec.name] = alias
                left.remove(alias)
    label = next((k for k in label_keys if k in left), None)
    if left == [label] and label != "y" and not bound and len(inputs) == 1:
        label = None
    rest = [k for k in left if k != label]
    if not bound and len(inputs) == 1 and len(rest) == 1:
        return {inputs[0].name: rest[0]}, label

    missing = [s for s in inputs if s.name not in bound]
    wanted = ", ".join(repr(s.name) for s in inputs)
    if missing:
        name = missing[0].name
        has = ", ".join(map(repr, rest + [label] * (label is not None))) or "nothing else"
        close = nearest(name, rest)
        if not close and label and not rest:
            close = f" ({label!r} holds labels.)"
        raise DataError(
            f"{what} has no data for the model's input {name!r}; it has {has}. "
            f"Name the arrays as the model's inputs: {wanted}.{close}"
        )
    if rest and not extra_allowed:
        raise DataError(
            f"{what} has {rest[0]!r}, which is no input of the model ({wanted}). "
            f"Remove it, or name it 'y' if it holds labels.{nearest(rest[0], bound)}"
        )
    return bound, label


class Fitter:
    """Checks elements against the inputs of one model and cuts them into rows.

    A row is an input without its batch dimension (`ArgSpec.batched`). Inputs that share none are
    taken whole: a row then has the input's full shape. A dimension of -1 fits any size.

    Raises:
      DataError: the model takes no input, or one of a type that numbers cannot fill.
    """

    def __init__(self, inputs: Sequence[ArgSpec]):
        if not inputs:
            raise DataError("The model takes no input, so there is nothing to feed data to.")
        for spec in inputs:
            if spec.dtype not in INPUT_DTYPES:
                raise DataError(
                    f"The model's input {spec.name!r} has dtype {spec.dtype}, which representative "
                    f"data cannot fill. Convert a part of the model that takes numbers."
                )
        self.inputs = tuple(inputs)
        self.batched = share_batch(inputs)
        self.batch = max(1, inputs[0].shape[0]) if self.batched else 1

    def row_shape(self, spec: ArgSpec) -> tuple[int, ...]:
        """The shape of one row of `spec`."""
        return spec.shape[1:] if self.batched else spec.shape

    def split_shape(
        self, received: tuple[int, ...], spec: ArgSpec
    ) -> tuple[int | None, tuple[int, ...]] | None:
        """How an array of shape `received` is made of rows of `spec`.

        Returns:
          The number of rows (None: a single row without batch dimension) and the shape of a row,
          or None if the array does not fit. A trailing dimension of size 1 (the channel of a grey
          image) may be missing or too many.
        """
        shape = self.row_shape(spec)
        if (row := _fits(received, shape)) is not None:
            return None, row
        if received and (row := _fits(received[1:], shape)) is not None:
            return received[0], row
        # Inputs taken whole may come without their leading dimension of 1.
        if not self.batched and shape[:1] == (1,):
            if (row := _fits(received, shape[1:])) is not None:
                return None, (1, *row)
        return None

    def rows(self, element: Element, first: int, what: str) -> Iterator[Row]:
        """The rows of `element`, lazily; `first` is the number of its first sample.

        Raises:
          DataError: shape, dtype or values do not fit.
        """
        yield from self.converted(self.cut(element, first, what), first, what)

    def cut(self, element: Element, first: int, what: str) -> RawRows:
        """The rows of `element` before their values are looked at; mostly views of its arrays.

        Raises:
          DataError: shapes do not fit, or values are no real numbers.
        """
        where = _where(first, what, element.where)
        arrays: dict[str, np.ndarray] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        counts: dict[str, int | None] = {}
        for spec in self.inputs:
            array = as_array(element.arrays[spec.name], f"{where}: input {spec.name!r}")
            fit = self.split_shape(array.shape, spec)
            if fit is None:
                raise DataError(f"{where}: {self.shape_message(spec, array.shape)}")
            arrays[spec.name] = array
            counts[spec.name], shapes[spec.name] = fit
        sizes = {1 if n is None else n for n in counts.values()}
        if len(sizes) > 1:
            each = ", ".join(f"{n!r} {c or 1}" for n, c in counts.items())
            raise DataError(f"{where}: the inputs have different numbers of samples: {each}.")
        size = sizes.pop()
        single = any(n is None for n in counts.values())
        labels = _labels(element.label, size, single, where)
        rows = {name: array.reshape(size, *shapes[name]) for name, array in arrays.items()}
        return RawRows(rows, labels, size, element.where)

    def converted(self, raw: RawRows, first: int, what: str) -> Iterator[Row]:
        """The rows of `raw`, checked and copied one by one; `first` is the number of the first.

        Raises:
          DataError: a value does not fit; the message names the sample.
        """
        for i in range(raw.count):
            where = _where(first + i, what, raw.where)
            inputs = {
                spec.name: convert(
                    raw.arrays[spec.name][i, ...], spec.dtype, f"{where}: input {spec.name!r}"
                )
                for spec in self.inputs
            }
            yield Row(inputs, None if raw.labels is None else raw.labels[i])

    def shape_message(self, spec: ArgSpec, received: tuple[int, ...]) -> str:
        """The sentence about a sample of a wrong shape."""
        shape = self.row_shape(spec)
        hint = ""
        if math.prod(received) == math.prod(shape) > 0:
            hint = " The number of values is right: reshape or transpose the samples."
        elif len(received) == len(shape) == 3 and received[:2] == shape[:2]:
            hint = " Only the number of channels is wrong."
        elif len(received) == len(shape) >= 2:
            hint = " Resize the samples to what the model takes."
        return (
            f"input {spec.name!r} takes samples of shape {shape}, with or without a batch "
            f"dimension. Received: {tuple(received)}.{hint}"
        )


def _where(number: int, what: str, where: str) -> str:
    return f"Sample {number} of {what}" + (f" ({where})" if where else "")


def as_array(value: Any, where: str) -> np.ndarray:
    """`value` as a numeric array, without a copy where possible.

    Raises:
      DataError: ragged lists, strings, complex numbers, objects.
    """
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as e:
        raise DataError(f"{where} is no array: {e}. Received: {type(value).__name__}.") from None
    if array.dtype.kind in "biuf" or array.dtype.name == "bfloat16":
        return array
    raise DataError(
        f"{where} cannot be read as numbers. Received: dtype {array.dtype}"
        f" ({type(value).__name__}). Give real numbers."
    )


def convert(array: np.ndarray, dtype: str, where: str) -> np.ndarray:
    """A C-ordered copy of a numeric `array` as `dtype`, only if that keeps the values.

    float64 rounds to float32, integers become floats of the same value; a float becomes an
    integer only if it is one.

    Raises:
      DataError: NaN or infinity, a fraction where integers are needed, a value out of range.
    """
    target = np.dtype(dtype)
    source_floats = array.dtype.kind not in "biu"
    if source_floats:
        with np.errstate(invalid="ignore"):
            finite = np.isfinite(array)
        if not finite.all():
            nans = int(np.isnan(array).sum())
            bad = int(array.size - finite.sum())
            raise DataError(
                f"{where} has {bad} of {array.size} values that are not finite "
                f"({nans} NaN, {bad - nans} infinite). Remove or repair the sample."
            )
    if target.kind == "f":
        with np.errstate(over="ignore"):
            result = np.array(array, target, order="C")
        if target.itemsize < array.dtype.itemsize and not np.isfinite(result).all():
            raise DataError(f"{where} has values too large for {dtype}. Scale the sample down.")
        return result
    if source_floats and not (array == np.floor(array)).all():
        value = array[array != np.floor(array)].flat[0]
        raise DataError(f"{where} takes integers ({dtype}). Received: {array.dtype} {value:g}.")
    low, high = (0, 1) if target.kind == "b" else (np.iinfo(target).min, np.iinfo(target).max)
    if array.size and (array.min() < low or array.max() > high):
        raise DataError(
            f"{where} takes values from {low} to {high} ({dtype}). "
            f"Received: {array.min()} to {array.max()}."
        )
    return np.array(array, target, order="C")


def _fits(received: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The concrete row shape if `received` is `shape` give or take one trailing 1, else None."""
    candidates = [received]
    if shape[-1:] in ((1,), (-1,)):
        candidates.append((*received, 1))
    if received[-1:] == (1,):
        candidates.append(received[:-1])
    for candidate in candidates:
        if len(candidate) == len(shape) and all(
            want in (-1, have) for want, have in zip(shape, candidate, strict=True)
        ):
            return candidate
    return None


def label_array(value: Any, where: str) -> np.ndarray:
    """Labels as an array of numbers, or a structured one with such fields.

    Raises:
      DataError: as `as_array`.
    """
    names = getattr(getattr(value, "dtype", None), "names", None)
    for name in names or ():
        as_array(value[name], f"{where} of {name!r}")
    return value if names else as_array(value, where)


def _labels(label: Any, size: int, single: bool, where: str) -> list[np.ndarray] | None:
    """One label per row."""
    if label is None:
        return None
    if isinstance(label, Mapping):
        if not label:
            raise DataError(f"{where}: the label is an empty dict. Give labels by output.")
        fields = {
            str(name): _labels(value, size, single, f"{where}: output {name!r}") or []
            for name, value in label.items()
        }
        return [
            rows_of({name: rows[i][np.newaxis] for name, rows in fields.items()})[0, ...]
            for i in range(size)
        ]
    array = label_array(label, f"{where}: the label")
    if single or (size == 1 and array.shape[:1] != (1,)):
        return [np.array(array)]
    if array.ndim == 0 or array.shape[0] != size:
        raise DataError(
            f"{where}: a batch of {size} samples needs {size} labels. "
            f"Received: labels of shape {array.shape}."
        )
    return [np.array(a) for a in array]
