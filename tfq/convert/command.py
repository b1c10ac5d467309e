"""`python -m tfq.convert SOURCE [flags]`: the flags, and what is printed."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from absl import flags

from tfq import cli
from tfq.data_flags import ImageFlags, numbers
from tfq.errors import UsageError
from tfq.files import check_output, write_atomic

if TYPE_CHECKING:
    from tfq.plan.scheme import LayerRule

FLAGS = flags.FlagValues()


def _string(name: str, default: str | None, text: str) -> flags.FlagHolder:
    return flags.DEFINE_string(name, default, text, flag_values=FLAGS)


def _list(name: str, text: str) -> flags.FlagHolder:
    """A flag that may be given again, and takes several values with commas between them."""
    return flags.DEFINE_multi_string(name, [], text, flag_values=FLAGS)


_DATA = _string("data", None, "file, image folder, module:callable or synthetic")
_OUTPUT = _string("output", None, "file to write; default: SOURCE_SCHEME.tflite here")
_SCHEME = _string("scheme", "int8", "or int16x8, dynamic, weight_only, float16, float32")
_QUALITY = _string("quality", None, "default, fast or best: what is done for accuracy")
_CALIBRATION = _string(
    "calibration",
    None,
    "auto (default), robust, minmax, mse, percentile:P ...",
)
_WEIGHTS = _string("weights", None, "minmax, mse, output_mse, auto (below 8 bits)")
_WEIGHT_BITS = _list("weight_bits", "8 (default), 4 or 2; REGEX=BITS for some layers")
_GRANULARITY = _string("granularity", "per_channel", "of weights; or per_tensor")
_DENSE = _string("dense_granularity", "per_channel", "of dense layers; EdgeTPU: per_tensor")
_EQUALIZATION = _string("equalization", None, "auto (default), cross_layer or none")
_BIAS = _string("bias_correction", None, "sequential (default) or none")
_INPUT_TYPE = _string("input_type", None, "int8, uint8, int16, float32; default: the scheme's")
_OUTPUT_TYPE = _string("output_type", None, "the same for outputs")
_INPUT_RANGE = flags.DEFINE_list(
    "input_range", None, "LO,HI: the real values that the input spans", flag_values=FLAGS
)
_LABELS = _string("labels", None, "of an image classifier, for apps: a text file")
_ALLOW = _list("allow_float", "ops, or regexes of layers, that may stay float")
_EXCLUDE = _list("exclude", "regexes of layers to keep float")
_INT16 = _list("int16", "auto[:PERCENT], or regexes of layers in 16 bits")
_SPLIT = _list("split_output", "outputs to give as the parts that they are joined of")
_SIGNATURE = _string("signature", None, "default: serving_default, or the only one")
_BATCH = flags.DEFINE_integer("batch", 1, "batch size of the result", flag_values=FLAGS)
_ALLOW_CODE = flags.DEFINE_boolean(
    "allow_code",
    False,
    "runs code in the model file; only if you trust it",
    flag_values=FLAGS,
)
_SAMPLES = flags.DEFINE_integer("samples", None, "read at most so many", flag_values=FLAGS)
_CACHE = _string("cache", None, "of float conversions; or none; default: ~/.cache/tfq")
_IMAGES = ImageFlags(FLAGS)
_STATISTICS = _string("statistics", None, "start from this statistics file")
_STATISTICS_OUT = _string("statistics_out", None, "write statistics here")
_PLAN = _string("plan", None, "replay this plan")
_PLAN_OUT = _string("plan_out", None, "write the plan (JSON) here")
_SUMMARY = _string("summary_json", None, "write the summary (JSON) here")
_WORKERS = flags.DEFINE_integer("workers", 1, "processes that calibrate", flag_values=FLAGS)
_SCHEDULER = _string("scheduler", None, "a Dask scheduler that calibrates: tcp://host:8786")


def _values(flag: flags.FlagHolder) -> list[str]:
    return [part.strip() for text in flag.value for part in text.split(",")]


def _weight_bits() -> tuple[int, list[LayerRule]]:
    """What `--weight_bits` says: of the model, and of some layers."""
    from tfq.plan import patterns
    from tfq.plan.scheme import LayerRule

    overall: int | None = None
    rules = []
    for text in _values(_WEIGHT_BITS):
        regex, equals, bits = text.rpartition("=")
        if not bits.isdecimal():
            raise UsageError(
                "--weight_bits is 8, 4 or 2, or REGEX=BITS for the layers that a regular "
                f"expression finds. Received: {text!r}."
            )
        if equals:
            patterns.check_regexes("weight_bits", [regex])
            rules.append(LayerRule(regex=regex, weight_bits=int(bits)))
        elif overall is not None:
            raise UsageError(
                f"--weight_bits says {overall} and {bits} for the whole model. Leave one out, or "
                "say which layers it is for: REGEX=BITS."
            )
        else:
            overall = int(bits)
    return 8 if overall is None else overall, rules


def _int16() -> tuple[str | None, tuple[str, ...]]:
    """What `--int16` says: how layers are found, and regexes of some."""
    from tfq.plan import patterns

    values = _values(_INT16)
    words = [v for v in values if v == "none" or v.partition(":")[0] == "auto"]
    if len(words) > 1:
        raise UsageError(f"--int16 says {words[0]} and {words[1]}. Leave one out.")
    regexes = [v for v in values if v not in words]
    return next(iter(words), None), patterns.strings("int16", regexes)


def default_output(source: str, scheme: str, weight_bits: int = 8) -> str:
    """`models/saved_model/` in int8 -> `saved_model_int8.tflite` in the current folder.

    With weights of fewer bits it is `saved_model_int8_w4.tflite`.
    """
    base = os.path.basename(os.path.abspath(source))
    stem = base if os.path.isdir(source) else os.path.splitext(base)[0]
    return f"{stem}_{scheme}{f'_w{weight_bits}' if weight_bits < 8 else ''}.tflite"


def _check_outputs(source: str, output: str) -> None:
    """Fails before any work for outputs that cannot be written, or would overwrite something."""
    taken = {os.path.realpath(source): "the source itself"}
    if _LABELS.value:
        taken[os.path.realpath(_LABELS.value)] = "the labels themselves"
    if _DATA.value:
        taken.setdefault(os.path.realpath(_DATA.value), "the data itself")
    for flag, path in (
        ("output", output),
        *((f.name, f.value) for f in (_STATISTICS_OUT, _PLAN_OUT, _SUMMARY) if f.value),
    ):
        place = os.path.realpath(path)
        if place in taken:
            raise UsageError(f"--{flag}={path} is {taken[place]}. Give another name.")
        taken[place] = f"also --{flag}"
        check_output(path)


def _run(args: list[str]) -> int:
    from tfq.convert import convert_model
    from tfq.convert.summary import lines
    from tfq.plan import patterns
    from tfq.plan.scheme import LayerRule, check_weight_bits, get_scheme

    source = args[0]
    scheme = get_scheme(_SCHEME.value).name
    weight_bits, narrow = _weight_bits()
    check_weight_bits(weight_bits)
    output = _OUTPUT.value or default_output(source, scheme, weight_bits)
    _check_outputs(source, output)
    input_range = numbers(_INPUT_RANGE, (2,))
    options = _IMAGES.options()
    int16, wide = _int16()
    patterns.check_regexes("int16", wide)
    with cli.Progress() as progress:
        result = convert_model(
            source,
            _DATA.value,
            scheme=scheme,
            quality=_QUALITY.value,
            calibration=_CALIBRATION.value,
            weights=_WEIGHTS.value,
            weight_bits=weight_bits,
            granularity=_GRANULARITY.value,
            dense_granularity=_DENSE.value,
            equalization=_EQUALIZATION.value,
            bias_correction=_BIAS.value,
            int16=int16,
            input_type=_INPUT_TYPE.value,
            output_type=_OUTPUT_TYPE.value,
            input_range=None if input_range is None else (input_range[0], input_range[1]),
            labels=_LABELS.value,
            allow_float=_values(_ALLOW),
            exclude=_values(_EXCLUDE),
            split_output=_values(_SPLIT),
            rules=[*(LayerRule(regex=r, activations="int16") for r in wide), *narrow],
            signature=_SIGNATURE.value,
            batch=_BATCH.value,
            allow_code=_ALLOW_CODE.value,
            samples=_SAMPLES.value,
            cache=_CACHE.value,
            data_options=options,
            statistics=_STATISTICS.value,
            keep_histograms=bool(_STATISTICS_OUT.value),
            plan=_PLAN.value,
            workers=_WORKERS.value,
            scheduler=_SCHEDULER.value,
            progress=progress,
        )
    if _STATISTICS_OUT.value and result.statistics is None:
        raise UsageError(f"--statistics_out: scheme {scheme} collects no statistics.")
    if _STATISTICS_OUT.value and result.statistics is not None:
        result.statistics.save(_STATISTICS_OUT.value)
    if _PLAN_OUT.value:
        result.plan.save(_PLAN_OUT.value)
    if _SUMMARY.value:
        text = json.dumps({**result.summary, "output": output}, indent=1, allow_nan=False)
        write_atomic(_SUMMARY.value, text.encode())
    result.save(output)
    cli.say(output)
    for line in lines(result.summary):
        cli.say(line)
    return 0


COMMAND = cli.Command(
    "convert",
    "SOURCE",
    "Converts a SavedModel, .keras, .h5, .pb or float .tflite to a proven .tflite.",
    FLAGS,
    _run,
    ("tfq convert model.keras --data=samples.npz --output=model.tflite",),
)


def run_command(argv: list[str] | None = None) -> int:
    return cli.run(COMMAND, argv)
