"""The phases of quantization-aware training over the epochs of `fit`."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from tfq.errors import UsageError
from tfq.keras.batch_norm import freeze_batch_norm
from tfq.keras.quantizers.phases import check_ranges, quantizers_of, set_phase

__all__ = ["Schedule", "check_ranges", "set_phase"]

_SHOWN = 5  # Problems that one warning lists.


class Schedule(keras.callbacks.Callback):
    """Observe, then train, then freeze: a callback for `fit`.

    At first values may pass unquantized while ranges are learnt; then they are quantized; for the
    last epochs the ranges, and with them the statistics of BatchNormalization, stay as they are, so
    that the weights settle on the grid that ships. At the end of an epoch one warning names ranges
    that training broke.

    Args:
      observe: for how long values pass unquantized: epochs (int), or a share of all (float).
      freeze: from when on ranges stay: the number of epochs before it (int), or a share of all
        (float); None for never. A share below 1 leaves at least the last epoch, and at least the
        first one before it; a single epoch is never frozen, unless the share is 0.
      freeze_batch_norm: freeze the statistics of BatchNormalization with the ranges.

    Raises:
      UsageError: a negative number, a share above 1, or a freeze that comes before the end of
        observe; of a share and a number of epochs only `fit` can say so.
    """

    def __init__(
        self,
        observe: int | float = 0,
        freeze: int | float | None = 0.8,
        freeze_batch_norm: bool = True,
    ):
        super().__init__()
        for name, value in (("observe", observe), ("freeze", freeze)):
            if value is None and name == "freeze":
                continue
            epochs = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            if not epochs and not (isinstance(value, float) and 0 <= value <= 1):
                raise UsageError(
                    f"{name} is a number of epochs (an int) or a share of them (a float from 0 to "
                    f"1). Received: {value!r}."
                )
        if (
            freeze is not None
            and isinstance(freeze, int) == isinstance(observe, int)
            and (freeze < observe)
        ):
            raise UsageError(
                "freeze must not come before the end of observe. "
                f"Received: observe={observe!r}, freeze={freeze!r}."
            )
        self.observe, self.freeze, self.freeze_batch_norm = observe, freeze, freeze_batch_norm
        self._warned: set[str] = set()

    def phase_of(self, epoch: int, epochs: int) -> str:
        """The phase of one epoch, counted from 0, of so many."""
        if self.freeze is not None and epoch >= _first_frozen(self.freeze, epochs):
            return "freeze"
        return "observe" if epoch < _epochs(self.observe, epochs) else "train"

    def on_train_begin(self, logs: Any = None) -> None:
        if next(quantizers_of(self.model), None) is None:
            raise UsageError(
                "Schedule found no quantizer in this model. Train what tfq.keras.quantize returned."
            )
        self._warned = set()
        if self.freeze is None or isinstance(self.freeze, float) == isinstance(self.observe, float):
            return
        epochs = self.params["epochs"]
        end = min(_epochs(self.observe, epochs), epochs)
        if (start := _first_frozen(self.freeze, epochs)) < end:
            raise UsageError(
                f"Of {epochs} epochs the first {end} observe, but ranges freeze after {start}: "
                "freeze later, or observe for less. "
                f"Received: observe={self.observe!r}, freeze={self.freeze!r}."
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        phase = self.phase_of(epoch, self.params["epochs"])
        set_phase(self.model, phase)
        if self.freeze_batch_norm:
            freeze_batch_norm(self.model, phase == "freeze")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        found = [p for p in check_ranges(self.model) if p not in self._warned]
        if not found:
            return
        self._warned.update(found)
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        warnings.warn(
            f"After epoch {epoch + 1} training has broken {len(found)} range(s): "
            f"{'; '.join(found[:_SHOWN])}{more}. Lower the learning rate, observe for longer, or "
            "use another quantizer there.",
            stacklevel=2,
        )


def _first_frozen(freeze: int | float, epochs: int) -> int:
    if not isinstance(freeze, float) or freeze in (0.0, 1.0):
        return _epochs(freeze, epochs)
    # Rounded alone, 0.8 of one or two epochs would be the end.
    return max(min(_epochs(freeze, epochs), epochs - 1), 1)


def _epochs(when: int | float, epochs: int) -> int:
    return round(when * epochs) if isinstance(when, float) else when
