"""One loop over samples, and what can be seen in it.

sketch, values = SketchObserver(Read("conv")), ValuesObserver([Read("dense", INTEGER)])
observe({FLOAT: float_bytes, INTEGER: integer_bytes}, samples, [sketch, values])
"""

from __future__ import annotations

from tfq.observe.channels import ChannelObserver
from tfq.observe.errors import ErrorObserver
from tfq.observe.extremes import ExtremesObserver
from tfq.observe.loop import observe
from tfq.observe.observer import FLOAT, INTEGER, Observer, Read, Renamed
from tfq.observe.sketch import Sketch
from tfq.observe.sketches import SketchObserver
from tfq.observe.sums import OrderedSums
from tfq.observe.values import ValuesObserver

__all__ = [
    "FLOAT",
    "INTEGER",
    "ChannelObserver",
    "ErrorObserver",
    "ExtremesObserver",
    "Observer",
    "OrderedSums",
    "Read",
    "Renamed",
    "Sketch",
    "SketchObserver",
    "ValuesObserver",
    "observe",
]
