"""Samples from Python: arrays, datasets, generators and functions that make them.

What a stream may yield: an array (a model with one input), a list or tuple of arrays in the order
of the inputs, a dict by input name, and any of these with a label: `(x, y)`. One sample or a batch
at a time. That covers the classic `representative_dataset` function of TensorFlow Lite,
`tf.data.Dataset`, `keras.utils.PyDataset` and torch's `DataLoader`, none of which is imported.
"""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tfq.data.columns import columns_reading, memory_columns
from tfq.data.fit import Element, Fitter, aliases, bind
from tfq.data.labels import gathered
from tfq.data.source import Reading
from tfq.errors import DataError, TfqError


def open_object(data: Any, fitter: Fitter, what: str = "", limited: bool = False) -> Reading:
    """Reads anything that `data=` accepts in Python but paths and names.

    Args:
      data: see `tfq.data.open_data`.
      fitter: the model's inputs.
      what: a name for messages; without it the kind of data.
      limited: the reader will stop at a limit, so an endless dataset is fine.

    Raises:
      DataError: it is nothing that holds samples, or they do not fit the model.
    """
    if callable(data) and not isinstance(data, Iterable):
        return _open_callable(data, fitter, what, limited)
    what = what or f"data ({type(data).__name__})"
    if hasattr(data, "as_numpy_iterator"):
        return _open_dataset(data, fitter, what, limited)
    if isinstance(data, Mapping):
        return columns_reading(memory_columns(data, what), fitter, what)
    if _is_array(data):
        return _open_array(data, fitter, what)
    if isinstance(data, list) and _is_numbers(data):
        return _open_array(np.array(data), fitter, what)
    if isinstance(data, list | tuple):
        columns = _columns(data, fitter)
        if columns is not None:
            return columns_reading(memory_columns(columns, what), fitter, what)
        return _stream(lambda: iter(data), fitter, what, True)
    if isinstance(data, Iterator):
        return _stream(lambda: data, fitter, what, False)
    if isinstance(data, Iterable):
        return _stream(lambda: iter(data), fitter, what, True)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return _stream(lambda: (data[i] for i in range(len(data))), fitter, what, True)
    raise DataError(
        f"data cannot be read. Give a path, an array, a dict of arrays, a tf.data.Dataset, a "
        f"generator or a function that returns one. Received: {type(data).__name__}."
    )


def _open_array(data: Any, fitter: Fitter, what: str) -> Reading:
    if len(fitter.inputs) != 1:
        names = ", ".join(repr(s.name) for s in fitter.inputs)
        raise DataError(
            f"{what} is for one input and the model has {len(fitter.inputs)}. "
            f"Give a dict with an array for each of {names}."
        )
    columns = memory_columns({fitter.inputs[0].name: data}, what)
    return columns_reading(columns, fitter, what)


def _open_dataset(data: Any, fitter: Fitter, what: str, limited: bool) -> Reading:
    cardinality = int(data.cardinality())  # -1: endless, -2: unknown (tf.data).
    if cardinality == -1 and not limited:
        raise DataError(f"{what} is endless. Use dataset.take(200), or a limit.")
    reading = _stream(data.as_numpy_iterator, fitter, what, True)
    if cardinality >= 0 and _rank(data.element_spec) == len(fitter.row_shape(fitter.inputs[0])):
        return Reading(reading.elements, what, cardinality, reading.has_labels, reading.repeatable)
    return reading


def _rank(spec: Any) -> int | None:
    """The rank of the first tensor of a dataset's `element_spec`."""
    while isinstance(spec, Mapping | tuple | list) and spec:
        spec = next(iter(spec.values())) if isinstance(spec, Mapping) else spec[0]
    return getattr(getattr(spec, "shape", None), "rank", None)


def _open_callable(
    function: Callable[[], Any], fitter: Fitter, what: str, limited: bool
) -> Reading:
    name = getattr(function, "__name__", type(function).__name__)
    what = what or f"{name}()"
    made = _call(function, what)
    if made is None:
        raise DataError(
            f"{what} returned None. Yield samples from it, or return an array or a dataset."
        )
    if callable(made) and not isinstance(made, Iterable):
        raise DataError(f"{what} returned another function. Return samples.")
    if not isinstance(made, Iterator):
        return open_object(made, fitter, what, limited)
    # The generator made just now is used for the first reading, later readings make their own.
    spare = [made]
    return _stream(
        lambda: spare.pop() if spare else iter(_call(function, what)), fitter, what, True
    )


def _call(function: Callable[[], Any], what: str) -> Any:
    try:
        return function()
    except TfqError:
        raise
    except Exception as e:
        error = _users_error(e, what, "when called")
        raise DataError(f"{error} It is called without arguments.") from e


def _users_error(error: Exception, what: str, when: str) -> DataError:
    """An exception of the user's own code as one message that says where it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    text = str(error).strip().rstrip(".")
    return DataError(
        f"{what} raised {type(error).__name__} {when}{': ' if text else ''}{text}{place}."
    )


def _guarded(start: Callable[[], Iterator[Any]], what: str) -> Iterator[Any]:
    """Iterates `start()`, with the exceptions of the user's code turned into DataErrors."""
    iterator: Iterator[Any] | None = None
    for number in itertools.count():
        try:
            if iterator is None:
                iterator = start()
            item = next(iterator)
        except StopIteration:
            return
        except TfqError:
            raise
        except Exception as e:
            raise _users_error(e, what, f"at element {number}") from e
        yield item


def _stream(
    start: Callable[[], Iterator[Any]], fitter: Fitter, what: str, repeatable: bool
) -> Reading:
    """A reading of items of any of the accepted forms; the first is looked at for labels."""
    iterator = _guarded(start, what)
    try:
        first = _element(next(iterator), fitter, what)
    except StopIteration:
        raise DataError(
            f"{what} has no samples. Give at least one; 100 to 500 are usual."
        ) from None
    peeked = [(first, iterator)]

    def elements() -> Iterator[Element]:
        if peeked:
            element, items = peeked.pop()
            yield element
            del element
        else:
            items = _guarded(start, what)
        for item in items:
            yield _element(item, fitter, what)

    return Reading(elements, what, None, first.label is not None, repeatable)


def _element(item: Any, fitter: Fitter, what: str) -> Element:
    """Tells inputs and label apart in one item of a stream."""
    names = [s.name for s in fitter.inputs]
    label = None
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
        item = item[1]  # TensorFlow Lite's ("signature", {name: array}).
    if isinstance(item, list | tuple) and not _is_numbers(item):
        if 2 <= len(item) <= 3 and _is_structure(item[0]):  # ((a, b), y[, weights])
            item, label = item[0], item[1]
        elif len(item) == len(names) + 1:
            item, label = item[:-1], item[-1]
    if isinstance(item, Mapping):
        inputs = [alias for spec in fitter.inputs for alias in aliases(spec)]
        plain, fields = gathered(item, inputs, f"A sample of {what}")
        item = {**plain, **fields}
        bound, key = bind(item, fitter.inputs, f"A sample of {what}")
        return Element({name: item[k] for name, k in bound.items()}, item[key] if key else label)
    if len(names) == 1 and (_is_array(item) or _is_numbers(item)):
        return Element({names[0]: item}, label)
    if isinstance(item, list | tuple) and len(item) == len(names):
        return Element(dict(zip(names, item, strict=True)), label)
    size = f" of {len(item)}" if isinstance(item, list | tuple) else ""
    raise DataError(
        f"A sample of {what} must hold an array for each input of the model, in this order: "
        f"{', '.join(names)}. Received: {type(item).__name__}{size}."
    )


def _columns(data: list | tuple, fitter: Fitter) -> dict[str, Any] | None:
    """`data` as one array of samples for each input (and labels), or None if it is samples."""
    specs = fitter.inputs
    label = None
    if len(data) == 2 and isinstance(data[1], list) and _is_numbers(data[1]):
        data = (data[0], np.array(data[1]))
    by_output = len(data) == 2 and _is_labels(data[1])
    # A list of two dicts is two samples.
    if by_output and isinstance(data[0], Mapping) and isinstance(data, list):
        by_output = False
    if by_output and _is_array(data[0]) and len(specs) == 1:
        data, label = [data[0]], data[1]
    elif len(data) == 2 and _is_structure(data[0]) and (by_output or _is_array(data[1])):
        first, label = data
        if isinstance(first, Mapping):
            return {**first, "y": label} if all(map(_is_array, first.values())) else None
        data = first
    elif len(data) == len(specs) + 1 and all(map(_is_array, data)):
        data, label = data[:-1], data[-1]
        if fitter.split_shape(np.shape(label), specs[0]):
            return None
    if len(data) != len(specs) or not all(map(_is_array, data)):
        return None
    for array, spec in zip(data, specs, strict=True):
        fit = fitter.split_shape(np.shape(array), spec)
        if fit is None or fit[0] is None:
            return None
    columns = {spec.name: array for spec, array in zip(specs, data, strict=True)}
    return columns if label is None else {**columns, "y": label}


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__")


def _is_labels(value: Any) -> bool:
    """Labels of several outputs: a dict of arrays."""
    return isinstance(value, Mapping) and bool(value) and all(map(_is_array, value.values()))


def _is_structure(value: Any) -> bool:
    """A dict of inputs, or a list or tuple of arrays."""
    if isinstance(value, Mapping):
        return True
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_array, value))


def _is_numbers(value: Any) -> bool:
    """A number, or lists of numbers nested to any depth: an array written out in Python."""
    if isinstance(value, list):
        return bool(value) and all(map(_is_numbers, value))
    return isinstance(value, int | float | np.generic) and not isinstance(value, str)
