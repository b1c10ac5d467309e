"""Encoded images to arrays: size, colour and values as the model takes them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np

from tfq.errors import DataError, UsageError, unknown_option

CROPS = ("none", "center", "pad")
COLORS = ("auto", "rgb", "gray")

PADDED = 255
"""The number of pixels that padding adds to a mask."""

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How images become arrays. The value of a pixel is `(pixel - mean) * scale`.

    Attributes:
      resize: (height, width) to resize to before cropping; None: what the model takes.
      crop: "none": the whole image, stretched to the model's size. "center": resized (without
        `resize`: so that it just covers the model's size, keeping its proportions) and the centre
        cut out. "pad": resized to fit within the model's size, keeping its proportions, and
        centred on black.
      scale: factor, or one for each channel (1/255 for inputs from 0 to 1).
      mean: what is subtracted from pixels of 0..255 first, or one number for each channel.
      color: "auto": grey, RGB or RGBA by the model's channels; "gray": grey, repeated for each
        channel; "rgb": the model must take 3 channels.

    Raises:
      UsageError: an unknown name or a value that is no size or number.
    """

    resize: tuple[int, int] | None = None
    crop: str = "none"
    scale: float | Sequence[float] = 1.0
    mean: float | Sequence[float] = 0.0
    color: str = "auto"

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise unknown_option("crop", self.crop, CROPS)
        if self.color not in COLORS:
            raise unknown_option("color", self.color, COLORS)
        if self.resize is not None:
            object.__setattr__(self, "resize", tuple(self.resize))
        if self.resize is not None and (
            len(self.resize) != 2 or any(not isinstance(v, int) or v < 1 for v in self.resize)
        ):
            raise UsageError(f"resize takes (height, width). Received: {self.resize!r}.")
        for name in ("scale", "mean"):
            try:
                value = np.asarray(getattr(self, name), np.float64)
                good = value.ndim <= 1 and value.size > 0 and bool(np.isfinite(value).all())
            except (TypeError, ValueError):
                good = False
            if not good:
                raise UsageError(
                    f"{name} takes a number, or one for each channel. "
                    f"Received: {getattr(self, name)!r}."
                )


class ImageDecoder:
    """Encoded images to arrays of one shape.

    Args:
      shape: (height, width, channels), (channels, height, width) or (height, width), as the
        model takes it without batch; -1 for a height or width that is open.
      options: what to do with size, colour and values.

    Raises:
      DataError: the shape is not that of images.
      UsageError: options that do not go with the shape.
    """

    def __init__(self, shape: tuple[int, ...], options: DataOptions):
        self.channels_first = False
        if len(shape) == 2:
            height, width, channels = *shape, 1
        elif len(shape) == 3 and shape[2] in _MODES:
            height, width, channels = shape
        elif len(shape) == 3 and shape[0] in _MODES:
            self.channels_first = True
            channels, height, width = shape
        else:
            raise DataError(
                f"Images need an input of shape (height, width, channels) with 1, 3 or 4 channels. "
                f"The model takes {shape}: give arrays (.npz) instead."
            )
        self.shape = shape
        self.options = options
        if -1 in (height, width):
            if options.resize is None:
                raise UsageError("The model takes images of any size: choose one with resize.")
            height, width = options.resize
        self.size = (width, height)
        if options.color == "rgb" and channels != 3:
            raise UsageError(f"color='rgb' needs 3 channels; the model's input has {channels}.")
        if options.resize and options.crop != "center" and options.resize != (height, width):
            raise UsageError(
                f"resize={options.resize} is not the model's size {(height, width)}. "
                f"Add crop='center' to cut the model's size out, or leave resize away."
            )
        if options.resize and (options.resize[0] < height or options.resize[1] < width):
            raise UsageError(
                f"resize={options.resize} is smaller than the model's size {(height, width)}."
            )
        self.channels = channels
        self.mode = "L" if options.color == "gray" else _MODES[channels]
        for name in ("scale", "mean"):
            value = np.asarray(getattr(options, name))
            if value.size not in (1, channels):
                raise UsageError(
                    f"{name} has {value.size} values for images of {channels} channels. "
                    f"Received: {getattr(options, name)!r}."
                )
        self._scale = np.asarray(options.scale, np.float32)
        self._mean = np.asarray(options.mean, np.float32)
        self._plain = bool((self._scale == 1).all() and (self._mean == 0).all())

    def decode(self, data: bytes, name: str) -> np.ndarray:
        """The array of an encoded image: uint8 pixels, or float32 if scale or mean are given.

        Raises:
          DataError: the image is damaged; the message holds `name`.
        """
        with _opened(data, f"Image {name}") as image:
            pixels = np.asarray(self._place(_eight_bit(image).convert(self.mode)))
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., np.newaxis], self.channels, axis=-1)
        if not self._plain:
            pixels = (pixels.astype(np.float32) - self._mean) * self._scale
        if self.channels_first:
            return np.moveaxis(pixels, -1, 0)
        return pixels[..., 0] if len(self.shape) == 2 else pixels

    def decode_mask(self, data: bytes, name: str) -> np.ndarray:
        """The class numbers of an encoded mask, int32 [height, width] of the model's input.

        It is resized, cropped and padded as the image is, by the nearest pixel; what is padded is
        `PADDED`. The number of a pixel is its palette index, or its grey value as it is.

        Raises:
          DataError: the mask is damaged or has colours; the message holds `name`.
        """
        from PIL import Image

        with _opened(data, f"Mask {name}") as image:
            if image.format == "JPEG" or image.mode not in ("1", "L", "P", "I", "I;16"):
                raise DataError(
                    f"Mask {name} is a {image.format} of mode {image.mode}, which does not hold "
                    "class numbers. Save masks as PNG, grey or with a palette, whose values are "
                    "the classes."
                )
            numbers = Image.fromarray(np.asarray(image).astype(np.int32))
            return np.asarray(self._place(numbers, nearest=True))

    def _place(self, image, nearest=False):  # type: ignore[no-untyped-def]  # Pillow comes late.
        from PIL import Image, ImageOps

        method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
        if self.options.crop == "pad":
            return ImageOps.pad(image, self.size, method, color=PADDED if nearest else None)
        if self.options.crop == "none":
            return image if image.size == self.size else image.resize(self.size, method)
        if self.options.resize is None:
            return ImageOps.fit(image, self.size, method)
        height, width = self.options.resize
        image = image.resize((width, height), method)
        left, top = (width - self.size[0]) // 2, (height - self.size[1]) // 2
        return image.crop((left, top, left + self.size[0], top + self.size[1]))


@contextlib.contextmanager
def _opened(data: bytes, what: str):  # type: ignore[no-untyped-def]
    """The image in `data`; what goes wrong in it is a DataError that begins with `what`."""
    from PIL import Image, UnidentifiedImageError

    damage = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            yield image
    except DataError:
        raise
    except (*damage, Image.DecompressionBombError) as e:
        reason = (
            str(e).strip().rstrip(".")
            if not isinstance(e, UnidentifiedImageError)
            else "it is no image that Pillow knows"
        )
        raise DataError(f"{what} cannot be read: {reason}. Remove or replace it.") from None


def _eight_bit(image):  # type: ignore[no-untyped-def]
    """16-bit images scaled to 8 bits; Pillow's own conversion would clip them."""
    from PIL import Image

    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
