"""The LiteRT interpreter, the one judge of what a model does.

Everything that runs a model goes through `Runner`: calibration, bias correction, proof, evaluation.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfq.cores import threads_for
from tfq.errors import ModelError

KERNELS = ("xnnpack", "builtin", "reference")

_FAILED = "LiteRT failed while running the model"
_HELD = "reference to internal data"
_PATIENCE_SECONDS = 5.0


@contextlib.contextmanager
def native_stderr_silenced() -> Iterator[list[str]]:
    """Keeps what C++ prints to file descriptor 2 off the terminal; yields the lines afterwards."""
    lines: list[str] = []
    try:
        saved = os.dup(2)
    except OSError:  # No stderr at all.
        yield lines
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield lines
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            sink.seek(0)
            lines += sink.read().decode("utf-8", "replace").splitlines()


# The binding answers with whatever Python exception lies near: a name that is no text, a type that
# numpy lacks, a tensor without memory.
_REFUSALS = (RuntimeError, ValueError, TypeError, LookupError, OverflowError, SystemError)


@contextlib.contextmanager
def _said(failed: str) -> Iterator[None]:
    """Makes one error of what LiteRT raises, which says what failed."""
    try:
        yield
    except _REFUSALS as e:
        raise ModelError(f"{failed}: {e or type(e).__name__}") from None


class Runner:
    """One model, allocated and ready to invoke.

    Args:
      model: the `.tflite` bytes.
      kernels: "xnnpack" (the default CPU delegate), "builtin" (optimized kernels without a
        delegate) or "reference".
      keep_intermediates: makes every intermediate tensor of the main graph readable after `run`.
      threads: CPU threads; by default as many as there are cores, up to 4. Results are the same
        to the bit: threads share out outputs, never the terms of a sum.
      ranges: makes `invoke_for_ranges` work.
      batch: resizes the leading dimension of every input to this.
      shapes: resizes inputs to these, by name.

    Raises:
      ModelError: the interpreter refuses the model; the message holds its reason. Every method
        raises it for what LiteRT refuses there.
    """

    def __init__(
        self,
        model: bytes,
        *,
        kernels: str = "xnnpack",
        keep_intermediates: bool = False,
        threads: int | None = None,
        ranges: bool = False,
        batch: int | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
    ):
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = {
            "xnnpack": OpResolverType.AUTO,
            "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "reference": OpResolverType.BUILTIN_REF,
        }[kernels]
        refused = f"LiteRT ({kernels} kernels) refuses the model"
        with native_stderr_silenced(), warnings.catch_warnings(), _said(refused):
            # Readable intermediates are "intended for debugging purposes only"; they are the point.
            warnings.filterwarnings("ignore", ".*preserve_all_tensors")
            self._interpreter = Interpreter(
                model_content=model,
                experimental_op_resolver_type=resolver,
                experimental_preserve_all_tensors=keep_intermediates,
                num_threads=threads or threads_for(1),
                # Without these the delegate hides its tensors from `invoke_for_ranges`.
                experimental_disable_delegate_node_fusion=ranges,
                experimental_force_delegate_node_profiling=ranges,
            )
            for detail in self._interpreter.get_input_details():
                shape = None if shapes is None else shapes.get(detail["name"])
                if batch is not None:
                    shape = [batch, *(int(d) for d in detail["shape"][1:])]
                if shape is not None:
                    self._interpreter.resize_tensor_input(detail["index"], shape)
            self._interpreter.allocate_tensors()
            self.inputs: list[dict] = self._interpreter.get_input_details()
            self.outputs: list[dict] = self._interpreter.get_output_details()
        self._model = model
        self._options: dict[str, Any] = {
            "kernels": kernels,
            "keep_intermediates": keep_intermediates,
            "threads": threads,
            "ranges": ranges,
            "batch": batch,
            "shapes": shapes,
        }
        self._by_name = {d["name"]: d for d in self.inputs}

    def set_inputs(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Sets inputs by tensor name; values must have the tensor's exact shape and dtype."""
        for name, value in inputs.items():
            with _said(f"LiteRT does not take the input {name!r}"):
                self._interpreter.set_tensor(self._by_name[name]["index"], value)

    def invoke(self) -> None:
        """Runs the model on the inputs that were set.

        The interpreter refuses while anybody holds a view of a tensor. A profiler that looks at
        this thread from another one (Dask's workers have one) does for a moment, through the frame
        of a function that has long returned: that passes.
        """
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                self._interpreter.invoke()
                return
            except _REFUSALS as e:
                if _HELD not in str(e) or time.monotonic() > end:
                    raise ModelError(f"{_FAILED}: {e}") from None
            time.sleep(0.005)

    def invoke_for_ranges(self) -> dict[str, tuple[float, float]] | None:
        """Invokes, and returns (min, max) by name of the main graph's computed float tensors.

        LiteRT finds them while it runs, at a tenth of what reading the tensors costs. Its function
        for that is private: None, and nothing was run, where this version does not have it.
        """
        try:
            from ai_edge_litert._pywrap_tfl_calibration import InvokeWithCalibration

            handle = self._interpreter._native_handle()
        except (ImportError, AttributeError):
            return None
        with _said(_FAILED):
            found = InvokeWithCalibration(handle, 0)
        return {name: (r.min, r.max) for name, r in found.items()}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Sets `inputs` (by tensor name), invokes, and returns copies of all outputs by name."""
        self.set_inputs(inputs)
        self.invoke()
        return {d["name"]: self.tensor(d["index"]) for d in self.outputs}

    def run_on_zeros(self) -> None:
        """Sets every input to zeros, and invokes."""
        with _said("LiteRT does not take inputs of zeros"):
            for d in self.inputs:
                self._interpreter.set_tensor(d["index"], np.zeros(d["shape"], d["dtype"]))
        self.invoke()

    def run_in_order(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The same by position, for models whose tensors lack names or share them."""
        for detail, value in zip(self.inputs, values, strict=True):
            with _said(f"LiteRT does not take the input {detail['name']!r}"):
                self._interpreter.set_tensor(detail["index"], value)
        self.invoke()
        return [self.tensor(d["index"]) for d in self.outputs]

    def view(self, index: int) -> np.ndarray:
        """Tensor `index` of the main graph without a copy. Drop it before the next invoke."""
        with _said(f"Tensor {index} cannot be read"):
            return self._interpreter.tensor(index)()

    def tensor(self, index: int) -> np.ndarray:
        """A copy of tensor `index` of the main graph."""
        with _said(f"Tensor {index} cannot be read"):
            return self._interpreter.get_tensor(index)

    def reset_state(self) -> None:
        """Sets variable tensors back to their initial values.

        They are the state of fused recurrent ops, which the layers that these came from do not
        keep from one run to the next. Variables that are resources, which the source itself
        carries on, stay as they are.
        """
        with _said("LiteRT cannot reset the model's state"):
            self._interpreter.reset_all_variables()

    def restart(self) -> None:
        """Sets all state back to what a fresh interpreter has, resources too."""
        if any(d["op_name"] == "VAR_HANDLE" for d in self._interpreter._get_ops_details()):
            # LiteRT has no way to set these back.
            self._interpreter = Runner(self._model, **self._options)._interpreter
        else:
            self.reset_state()

    def tensor_details(self, graph: int = 0) -> list[dict]:
        """What LiteRT knows of the tensors of one graph, those of delegates among them."""
        with _said("LiteRT cannot describe the model's tensors"):
            return self._interpreter.get_tensor_details(subgraph_index=graph)

    def is_delegated(self) -> bool:
        """Whether XNNPACK took over ops of the main graph: it stands among them as one more."""
        return any(d["op_name"] == "DELEGATE" for d in self._interpreter._get_ops_details())
