"""The way a model goes: source, float graph, statistics, plan, quantized graph, proof."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfq.errors import UsageError, unknown_option
from tfq.files import write_atomic

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from tfq.calibrate.rules import RangeRule
    from tfq.calibrate.statistics import Statistics
    from tfq.data import DataOptions
    from tfq.plan.plan import Plan
    from tfq.plan.scheme import LayerRule

Progress = Callable[[str, int, int | None], None]

# Choices of the options that say which improvements are tried.
BIAS_CORRECTION = ("sequential", "none")


@dataclasses.dataclass(frozen=True)
class ConversionResult:
    """A converted model and everything that is known about it.

    Attributes:
      model: the `.tflite` file's bytes, allocated and invoked in LiteRT.
      plan: what was decided for every tensor and op, and why.
      summary: plain data (JSON): sizes, seconds by stage, op counts, errors, hashes, versions.
      statistics: what calibration saw of the model before equalization, or None for schemes that
        need no data.
    """

    model: bytes
    plan: Plan
    summary: Mapping[str, Any]
    statistics: Statistics | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model to `path`, all or nothing.

        Raises:
          TfqError: the file cannot be written.
        """
        write_atomic(path, self.model)


def convert_model(
    source: Any,
    data: Any = None,
    *,
    scheme: str = "int8",
    quality: str | None = None,
    calibration: str | RangeRule | None = None,
    weights: str | None = None,
    weight_bits: int = 8,
    granularity: str = "per_channel",
    dense_granularity: str = "per_channel",
    equalization: str | None = None,
    bias_correction: str | None = None,
    int16: str | None = None,
    input_type: str | None = None,
    output_type: str | None = None,
    input_range: tuple[float, float] | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    allow_float: Sequence[str] = (),
    exclude: Sequence[str] = (),
    split_output: str | Sequence[str] = (),
    rules: Sequence[LayerRule] = (),
    signature: str | None = None,
    batch: int = 1,
    allow_code: bool = False,
    samples: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    data_options: DataOptions | None = None,
    statistics: Statistics | str | os.PathLike[str] | None = None,
    keep_histograms: bool = False,
    plan: Plan | str | os.PathLike[str] | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> ConversionResult:
    """Converts a model, quantizes it, and proves the result.

    Args:
      source: a SavedModel folder, `.keras`, `.h5`, `.tflite` or frozen `.pb` path; `.tflite`
        bytes; a Keras 3 or tf_keras model; a concrete function.
      data: representative samples, in any form `tfq.data.open_data` takes. A SavedModel may carry
        its own (`tfq.save_representative_dataset`).
      scheme: "int8", "int16x8", "dynamic", "weight_only", "float16" or "float32".
      quality: "fast" (minimum and maximum, nothing else), "default" (what costs seconds; None is
        the same) or "best" (everything): what is done where the next options do not say otherwise.
      calibration: "auto" (rules are tried on the network and on parts of it), or one range rule or
        its name: "robust", "minmax", "percentile:99.99", "mse", ...
      weights: scales of weights: "minmax", "mse", "output_mse" (the least error at each layer's
        output) or "auto" (tried, and kept where it lowers the error); by default "auto" where some
        have fewer than 8 bits, else "minmax".
      weight_bits: 8, 4 or 2. Weights are stored in the narrowest type whose kernel is right; what
        is stored in a wider one has a reason in the plan.
      granularity: "per_channel" or "per_tensor" weights.
      dense_granularity: the same for fully connected layers ("per_tensor" for EdgeTPU).
      equalization: of channels that differ in range: "auto" (tried where they do, kept where it
        lowers the error), "cross_layer" (wherever it is possible) or "none".
      bias_correction: "sequential" or "none".
      int16: "auto" lets the few layers whose error dominates compute in 16 bits, up to 10 % of the
        operations ("auto:PERCENT" for another share), and states that are inputs and outputs be
        int16 outside, too; or "none". By default only quality "best" does, and changes no type
        outside. Layers by name: `rules`.
      input_type, output_type: "int8", "uint8", "int16" or "float32"; by default the scheme's own.
      input_range: real (lo, hi) that the input type's integers span, instead of calibrating it.
      labels: of an image classifier, for apps: a text file with one a line, or strings. They are
        attached with TFLite metadata, and inputs and outputs are uint8 unless said otherwise.
      allow_float: op names, or regexes of layer or output names, that may stay float.
      exclude: regexes of layer or output names of ops to keep float.
      split_output: outputs that come from a concatenation, whose parts become outputs of their own
        (NAME_0, NAME_1, ...), each with its own grid.
      rules: `LayerRule`s; for each choice the first that matches and makes it decides. One that
        matches nothing is an error.
      signature: which signature of the source.
      batch: batch size where the source leaves it free.
      allow_code: run code that the model file contains (Lambda layers, ops that write files or
        call Python), instead of refusing the file; only for files that you trust.
      samples: use at most so many samples.
      cache: the folder where float conversions of files are kept for the next time, or "none";
        default: tfq in $XDG_CACHE_HOME or ~/.cache.
      data_options: how images become arrays.
      statistics: from an earlier run (object or file), merged with those of `data` if any.
      keep_histograms: collect histograms even when the range rule needs extremes only.
      plan: replay this plan (object or file) instead of making one.
      workers: processes that share calibration; the result is the same to the bit.
      scheduler: address of a Dask scheduler whose workers do that.
      executor: the same, as an executor (`client.get_executor()`).
      progress: called with (stage, done, total).

    Raises:
      UsageError: an option is wrong.
      ModelError: the model is damaged, unsupported, already quantized or holds code.
      DataError: the samples do not fit the model.
      TfqError: ops that cannot become integer and were not allowed to stay float.
    """
    from tfq.calibrate.rules import get_rule, spell
    from tfq.calibrate.statistics import Statistics
    from tfq.convert.arguments import (
        check_plan_options,
        check_samples,
        check_types,
        int16_share,
        load_plan,
    )
    from tfq.convert.labels import check_classifier, read_labels, with_labels_choices
    from tfq.convert.quality import (
        AUTO,
        FIRST_RULE,
        choose_improvements,
        choose_weights,
        first_weights,
        get_quality,
    )
    from tfq.convert.stages import Run
    from tfq.data import check_signature
    from tfq.executors import open_workers
    from tfq.graph.model import Model
    from tfq.plan import patterns
    from tfq.plan.patterns import exclude_rules
    from tfq.plan.scheme import Config, get_scheme
    from tfq.sources import open_cache

    level = get_quality("default" if quality is None else quality)
    corrected = level.bias_correction if bias_correction is None else bias_correction
    if corrected not in BIAS_CORRECTION:
        raise unknown_option("bias_correction", corrected, BIAS_CORRECTION)
    share = int16_share(int16, level.int16, get_scheme(scheme).name)
    rule = level.calibration if calibration is None else calibration
    allowed = patterns.strings("allow_float", allow_float)
    excluded = patterns.strings("exclude", exclude)
    split = patterns.strings("split_output", split_output)
    patterns.check_regexes("allow_float", allowed)
    patterns.check_regexes("exclude", excluded)
    check_types(rules, input_range, samples, data_options, statistics, plan, progress)
    scales = choose_weights(weights, level, get_scheme(scheme), weight_bits, rules)
    first = get_rule(FIRST_RULE if rule == AUTO else rule, more=(AUTO,))
    # What was not said is not here: a replayed plan is compared with what was.
    said = {
        name: str(value)
        for name, value in (
            ("quality", quality),
            ("calibration", calibration if calibration in (None, AUTO) else spell(first)),
            ("weights", weights),
            ("equalization", equalization),
            ("bias_correction", bias_correction),
            ("int16", int16),
        )
        if value is not None
    }
    config = Config(
        scheme=get_scheme(scheme),
        calibration=first,
        weights=first_weights(scales),
        weight_bits=weight_bits,
        granularity=granularity,
        dense_granularity=dense_granularity,
        equalization=level.equalization if equalization is None else equalization,
        input_type=input_type,
        output_type=output_type,
        input_range=input_range,
        allow_float=(*allowed, *excluded),
        split_output=split,
        rules=(*rules, *exclude_rules(excluded)),
        asked=said,
    )
    names = None if labels is None else read_labels(labels)
    if names is not None:
        config = with_labels_choices(config, data_options, replayed=plan is not None)
    if equalization == "cross_layer" and statistics is not None:
        raise UsageError(
            "equalization=cross_layer rescales the model, which the statistics given are then not "
            "of. Leave one of the two out."
        )
    check_signature(source, signature)
    needed = statistics is None and plan is None
    check_samples(source, data, data_options, samples, config, needed=needed)
    if isinstance(statistics, str | os.PathLike):
        statistics = Statistics.load(statistics)
    given = load_plan(plan)
    kept = open_cache(cache)
    if given is not None:
        check_plan_options(given, config, excluded)
    with open_workers(workers, scheduler, executor) as crew:
        run = Run(config, progress or (lambda stage, done, total: None), crew)
        loaded = run.source(source, signature, batch, allow_code, kept)
        loaded = run.split(loaded, given)
        if names is not None:
            check_classifier(Model.from_bytes(loaded.model), names)
        prepared = run.prepare(loaded)
        if given is None:
            run.resolve(loaded, prepared, allowed, excluded)
        layout = run.lay_out(loaded, prepared, given)
        with patterns.naming_layers(loaded.layer_names):
            stream = run.open(data, loaded, prepared, layout, data_options, samples, needed=needed)
            stats = run.calibrate(
                prepared,
                layout if given is None else None,
                stream,
                statistics,
                histograms=keep_histograms or rule == AUTO,
            )
            if given is not None:
                candidate = run.replay(prepared, given)
            else:
                choose = functools.partial(
                    choose_improvements,
                    level,
                    calibration=rule,
                    weights=scales,
                    equalization=config.equalization,
                    bias_correction=corrected,
                    int16=share,
                    int16_asked=int16 is not None,
                    fresh=statistics is None,
                    trained=bool(prepared.trained.grids),
                )
                tried = choose(synthetic=stream.stream.synthetic)
                if stats is not None:
                    run.note_left_out(choose(synthetic=False), tried)
                run.note_idle(said, prepared, stream)
                candidate = run.build(prepared, layout, stats)
                candidate = run.improve(candidate, tried, stream, level)
            model = run.write(candidate, loaded, names, data_options)
        proof = run.prove(loaded, candidate.prepared, model, stream)
        accuracy = run.accuracy(candidate.prepared, model, stream)
        summary = run.summary(loaded, candidate, model, stream, proof, accuracy)
    return ConversionResult(model, candidate.plan, summary, stats)
