"""Images in files: the ones in a folder, or those that a CSV file lists with their labels."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfq.data.blocks import Payload
from tfq.data.fit import Element, Fitter, RawRows
from tfq.data.images import DataOptions, ImageDecoder
from tfq.data.source import Reading
from tfq.errors import DataError
from tfq.files import explain

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
PATH_COLUMNS = ("path", "filename", "file", "image", "filepath", "file_name")
LABEL_COLUMNS = ("label", "class", "y")
MASK_COLUMNS = ("mask", "mask_path", "mask_file", "segmentation", "annotation")
IMAGES_AND_MASKS = ("images", "masks")
"""A folder with these two, and no other, holds the masks of images instead of classes."""

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclasses.dataclass(frozen=True)
class Listed:
    """An image that is to be read: its name below the common folder, and its label.

    The label is a number, the name of a mask, or None.
    """

    name: str
    label: int | float | str | None


@dataclasses.dataclass(frozen=True)
class EncodedImages:
    """A payload of image files as they are on disk."""

    decoder: ImageDecoder
    folder: str
    images: Sequence[Listed]
    data: Sequence[tuple[bytes, bytes]]  # Of the image, and of its mask if it has one.

    @property
    def rows(self) -> int:
        """How many images."""
        return len(self.data)

    @property
    def nbytes(self) -> int:
        """The size of the files in bytes."""
        return sum(len(image) + len(mask) for image, mask in self.data)

    def raw(self, fitter: Fitter, first: int, what: str) -> Iterator[RawRows]:
        """The decoded images, one by one."""
        for i, (image, data) in enumerate(zip(self.images, self.data, strict=True)):
            element = _element(image, data, self.folder, self.decoder, fitter)
            yield fitter.cut(element, first + i, what)


def open_folder(path: Path, fitter: Fitter, options: DataOptions, limit: int | None) -> Reading:
    """Reads a folder of images in the order of their sorted paths.

    Sub-folders are classes: the label of an image is the place of its folder among the sorted
    names, empty ones included, as in `keras.utils.image_dataset_from_directory`. The two folders
    `IMAGES_AND_MASKS` hold images and their masks, under the same names. With `limit`,
    images are picked evenly from all, so that no class is left out because its name sorts last.

    Raises:
      DataError: there are no images, images both beside and in sub-folders, or the model's input
        is not an image.
    """
    decoder = _decoder(path, "is a folder of images", fitter, options)
    images, class_names = list_folder(path)
    images = _picked(images, limit)
    return _reading(images, path, f"{path.name}/", class_names, decoder, fitter)


def open_csv(path: Path, fitter: Fitter, options: DataOptions, limit: int | None) -> Reading:
    """Reads the images that a CSV file lists, a path and a label in each line.

    Paths are relative to the file's folder. Labels are integers, other numbers (targets of a
    regression), names, which are numbered in sorted order, or paths of masks, images of class
    numbers. The columns are told by a header, a path (`PATH_COLUMNS`) and a label (`LABEL_COLUMNS`,
    `MASK_COLUMNS`) among any others; without one there are just these two. With `limit`, images are
    picked evenly from all.

    Raises:
      DataError: a line cannot be read, labels are of several kinds, images are missing, or the
        model's input is not an image.
    """
    decoder = _decoder(path, "lists images", fitter, options)
    listed, class_names, masks = list_csv(path)
    listed = _picked(listed, limit)
    files = [(n, image.name) for n, image in listed]
    _require(files, "images", path)
    if masks:
        _require([(n, str(image.label)) for n, image in listed], "masks", path)
    images = [image for _, image in listed]
    return _reading(images, path.parent, path.name, class_names, decoder, fitter)


def _require(files: Sequence[tuple[int, str]], what: str, path: Path) -> None:
    """Sees that files are there, each named in a line of a CSV."""
    missing = [(line, name) for line, name in files if not (path.parent / name).is_file()]
    if missing:
        line, first = missing[0]
        header = " If that is a header, call its columns path,label." if line == 1 else ""
        raise DataError(
            f"{path}: {len(missing)} of {len(files)} {what} are missing, the first in line "
            f"{line}: {first}. Paths are relative to {path.parent}/.{header}"
        )


def _decoder(path: Path, what: str, fitter: Fitter, options: DataOptions) -> ImageDecoder:
    if len(fitter.inputs) != 1:
        raise DataError(
            f"{path} {what} and the model has {len(fitter.inputs)} inputs. "
            f"Give a .npz file with an array for each."
        )
    return ImageDecoder(fitter.row_shape(fitter.inputs[0]), options)


def _picked(items: list[Any], limit: int | None) -> list[Any]:
    """At most `limit` of `items`, evenly from all."""
    if limit is None or not 0 < limit < len(items):
        return items
    return [items[i * len(items) // limit] for i in range(limit)]


def _reading(
    images: list[Listed],
    folder: Path,
    what: str,
    class_names: tuple[str, ...] | None,
    decoder: ImageDecoder,
    fitter: Fitter,
) -> Reading:
    root = str(folder)

    def elements() -> Iterator[Element]:
        for image in images:
            yield _element(image, _read(root, image), root, decoder, fitter)

    def payloads(rows: int, limit: int | None) -> Iterator[Payload]:
        some = images[:limit]
        for start in range(0, len(some), rows):
            block = some[start : start + rows]
            yield EncodedImages(decoder, root, block, [_read(root, image) for image in block])

    return Reading(
        elements,
        what,
        len(images),
        has_labels=images[0].label is not None,
        class_names=class_names,
        payloads=payloads,
    )


def _read(folder: str, image: Listed) -> tuple[bytes, bytes]:
    """The files of an image and of its mask, empty where it has none."""
    mask = _read_file(folder, image.label) if isinstance(image.label, str) else b""
    return _read_file(folder, image.name), mask


def _read_file(folder: str, name: str) -> bytes:
    file = os.path.join(folder, name)
    try:
        with open(file, "rb", buffering=0) as stream:
            return stream.read()
    except OSError as e:
        raise DataError(f"Image {file} cannot be read: {e.strerror}.") from None


def _element(
    image: Listed, data: tuple[bytes, bytes], folder: str, decoder: ImageDecoder, fitter: Fitter
) -> Element:
    array = decoder.decode(data[0], os.path.join(folder, image.name))
    label: Any = image.label
    if isinstance(image.label, str):
        label = decoder.decode_mask(data[1], os.path.join(folder, image.label))
    return Element({fitter.inputs[0].name: array}, label, image.name)


def list_folder(path: Path) -> tuple[list[Listed], tuple[str, ...] | None]:
    """The images below `path`, and the names of the classes if there are sub-folders.

    Raises:
      DataError: there are none, or images both beside and in sub-folders.
    """
    try:
        entries = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    except OSError as e:
        raise DataError(f"Folder {path} cannot be read: {e.strerror}.") from None
    top = [p for p in entries if p.is_file() and p.suffix.lower() in EXTENSIONS]
    folders = [p for p in entries if p.is_dir()]
    classes = [
        sorted(
            f
            for f in folder.rglob("*")
            if f.suffix.lower() in EXTENSIONS and f.is_file() and not f.name.startswith(".")
        )
        for folder in folders
    ]
    inner = sum(map(len, classes))
    if top and inner:
        raise DataError(
            f"{path} has images both directly in it ({len(top)}) and in sub-folders ({inner}). "
            f"Put all of them in sub-folders (one for each class), or none."
        )
    if top:
        return [Listed(p.name, None) for p in top], None
    if not inner:
        has = f"{len(entries)} other entries" if entries else "nothing"
        raise DataError(
            f"Folder {path} has no images; it has {has}. Images end in {', '.join(EXTENSIONS)}."
        )
    names = tuple(folder.name for folder in folders)
    if names == IMAGES_AND_MASKS:
        return _paired(path, *classes), None
    files = [(f, i) for i, folder in enumerate(classes) for f in folder]
    return [Listed(str(f.relative_to(path)), i) for f, i in files], names


def _paired(path: Path, images: Sequence[Path], masks: Sequence[Path]) -> list[Listed]:
    """Every image with the mask of its name, whatever the endings."""

    def key(file: Path) -> Path:
        return Path(*file.relative_to(path).parts[1:]).with_suffix("")

    by_name = {key(mask): str(mask.relative_to(path)) for mask in masks}
    for image in images:
        if key(image) not in by_name:
            raise DataError(
                f"{image} has no mask: there is no {key(image)}.png in "
                f"{path / IMAGES_AND_MASKS[1]}. What the two folders hold belongs together by name."
            )
    return [Listed(str(f.relative_to(path)), by_name[key(f)]) for f in images]


def list_csv(
    path: Path,
) -> tuple[list[tuple[int, Listed]], tuple[str, ...] | None, bool]:
    """The images that a CSV file lists with their lines, the names of labels that are names, and
    whether labels are masks.

    Raises:
      DataError: a line cannot be read, or labels are of several kinds.
    """
    lines, masks = _csv_lines(path)
    labels: Sequence[int | float | str]
    if masks:
        labels, class_names = [label for _, _, label in lines], None
    else:
        labels, class_names = _numbered([(line, label) for line, _, label in lines], path)
    listed = [(n, Listed(name, y)) for (n, name, _), y in zip(lines, labels, strict=True)]
    return listed, class_names, masks


def _csv_lines(path: Path) -> tuple[list[tuple[int, str, str]], bool]:
    """The number of the line, the path and the label of each image; whether labels are masks."""

    def wrong(line: int, why: str) -> DataError:
        return DataError(f"{path}, line {line}: {why}. Lines are like cats/1.png,cat.")

    columns: tuple[int, int] | None = None
    masks = False
    width = 2
    lines = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, skipinitialspace=True, strict=True)
            for cells in reader:
                line = reader.line_num
                cells = [cell.strip() for cell in cells]
                if not any(cells):
                    continue
                if columns is None:
                    heads = [cell.lower() for cell in cells]
                    columns = _header(heads, path)
                    if columns is not None:
                        width = len(cells)
                        masks = heads[columns[1]] in MASK_COLUMNS
                        continue
                    columns = (0, 1)
                if len(cells) != width:
                    raise wrong(line, f"it has {len(cells)} columns instead of {width}")
                name, label = cells[columns[0]], cells[columns[1]]
                if not name or not label:
                    raise wrong(line, f"it has no {'label' if name else 'path'}")
                lines.append((line, name, label))
    except csv.Error as e:
        raise wrong(reader.line_num, str(e)) from None
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is not text in UTF-8: {e.reason} at byte {e.start}.") from None
    except OSError as e:
        raise DataError(f"{path} cannot be read: {explain(e)}") from None
    if not lines:
        raise DataError(f"{path} lists no images. Lines are like cats/1.png,cat.")
    files = all(label.lower().endswith(EXTENSIONS) for _, _, label in lines)
    return lines, masks or (files and (path.parent / lines[0][2]).is_file())


def _header(cells: list[str], path: Path) -> tuple[int, int] | None:
    """The columns of paths and labels if `cells`, in lower case, are names of columns."""
    name = next((cells.index(c) for c in PATH_COLUMNS if c in cells), None)
    label = next((cells.index(c) for c in (*LABEL_COLUMNS, *MASK_COLUMNS) if c in cells), None)
    if name is not None and label is None:
        raise DataError(
            f"{path} has no column of labels; it has {', '.join(cells)}. "
            f"Call it one of: {', '.join(LABEL_COLUMNS)}; of masks, {', '.join(MASK_COLUMNS[:2])}."
        )
    return None if name is None or label is None else (name, label)


def _numbered(
    labels: list[tuple[int, str]], path: Path
) -> tuple[Sequence[int | float], tuple[str, ...] | None]:
    """Labels as numbers, and the names of the classes if they were names."""
    texts = [text for _, text in labels]
    if all(map(_INTEGER.fullmatch, texts)):
        return [int(text) for text in texts], None
    numeric = [bool(_NUMBER.fullmatch(text)) for text in texts]
    if all(numeric):
        return [float(text) for text in texts], None
    if any(numeric):
        line, text = labels[numeric.index(not numeric[0])]
        kinds = ("a number", "a name") if numeric[0] else ("a name", "a number")
        raise DataError(
            f"{path}, line {line}: the label of the first image is {kinds[0]}, this is {kinds[1]}. "
            f"Give numbers only or names only. Received: {text!r}."
        )
    names = sorted(set(texts))
    index = {name: i for i, name in enumerate(names)}
    return [index[text] for text in texts], tuple(names)
