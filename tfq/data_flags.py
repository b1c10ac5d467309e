"""The flags about images that every command with `--data` has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags

from tfq.errors import UsageError

if TYPE_CHECKING:
    from tfq.data import DataOptions


class ImageFlags:
    """Defines --resize, --crop, --scale and --mean.

    Args:
      values: the command's flags.
    """

    def __init__(self, values: flags.FlagValues):
        self._resize = flags.DEFINE_list(
            "resize", None, "H,W of images; default: the input's", flag_values=values
        )
        self._crop = flags.DEFINE_string(
            "crop", None, "of images: none (the default), center, pad", flag_values=values
        )
        self._scale = flags.DEFINE_list(
            "scale", None, "of images: value = (byte - mean) * scale; default 1", flag_values=values
        )
        self._mean = flags.DEFINE_list(
            "mean", None, "of images: one, or one a channel; default 0", flag_values=values
        )

    def options(self) -> DataOptions | None:
        """What was asked for, or None for nothing.

        Raises:
          UsageError: a value that is no size or number.
        """
        from tfq.data import DataOptions

        resize = numbers(self._resize, (1, 2))
        given = {
            "resize": None if resize is None else (int(resize[0]), int(resize[-1])),
            "crop": self._crop.value,
            "scale": _scalar(numbers(self._scale, None)),
            "mean": _scalar(numbers(self._mean, None)),
        }
        chosen = {k: v for k, v in given.items() if v is not None}
        return DataOptions(**chosen) if chosen else None


def numbers(flag: flags.FlagHolder, count: tuple[int, ...] | None) -> tuple[float, ...] | None:
    """The numbers of a list flag, or None where it was not given.

    Args:
      flag: a list.
      count: how many there may be; None for any number.

    Raises:
      UsageError: something else.
    """
    if flag.value is None:
        return None
    try:
        values = tuple(float(v) for v in flag.value)
    except ValueError:
        values = ()
    if not values or (count is not None and len(values) not in count):
        raise UsageError(
            f"--{flag.name} takes {' or '.join(map(str, count)) if count else 'one or more'} "
            f"number{'s' * (count != (1,))} separated by commas. "
            f"Received: {','.join(flag.value)!r}."
        )
    return values


def _scalar(values: tuple[float, ...] | None) -> float | tuple[float, ...] | None:
    return values[0] if values is not None and len(values) == 1 else values
