"""`python -m tfq.evaluate MODEL... --data=SPEC`: the flags, and what is printed."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from tfq import cli
from tfq.data_flags import ImageFlags
from tfq.errors import TfqError, UsageError
from tfq.files import check_output, explain, write_atomic

FLAGS = flags.FlagValues()


def _string(name: str, default: str | None, text: str) -> flags.FlagHolder:
    return flags.DEFINE_string(name, default, text, flag_values=FLAGS)


def _integer(name: str, default: int | None, text: str) -> flags.FlagHolder:
    return flags.DEFINE_integer(name, default, text, flag_values=FLAGS)


_DATA = _string("data", None, "labelled: .npz, .csv, image folder, .tfrecord, module:callable")
_SECOND = _string("second_data", None, "whether the cost is the same on this other set")
_REFERENCE = _string("reference", None, "compared with the others; default: the float one")
_TASK = _string(
    "task",
    None,
    "classification, segmentation, regression, image, embedding, detection, signal; or "
    "OUTPUT:TASK,...; default: by outputs",
)
_METRICS = flags.DEFINE_list(
    "metrics",
    None,
    "such as top1,auc,miou, OUTPUT:top1, package.module:callable",
    flag_values=FLAGS,
)
_OUTPUT = _string("output", None, "the output that is measured, where there are several")
_SCORES = _string("scores", None, "of a classifier: probabilities or logits; default: by values")
_DATA_RANGE = flags.DEFINE_float(
    "data_range", None, "span of images' values: 1, 2, 255; default: by values", flag_values=FLAGS
)
_IGNORE = _integer("ignore_index", None, "label of pixels that do not count; default: 255")
_SAMPLES = _integer("samples", None, "read at most so many")
_LAYERS = flags.DEFINE_boolean(
    "layers", True, "layer by layer, against the float", flag_values=FLAGS
)
_LAYER_SAMPLES = _integer("layer_samples", 32, "about so many samples for the layers")
_PROBES = _integer("probes", 256, "about so many to probe stability with; 0: none")
_REPORT = _string("report", None, "write the page (HTML) here")
_JSON = _string("json", None, "write the report as JSON here")
_NODE_DATA = _string("node_data", None, "write Model Explorer node data into this folder")
_PLOTS = _string("plots", None, "write plots (PNG and SVG) into this folder")
_WORKERS = _integer("workers", 1, "processes")
_SCHEDULER = _string("scheduler", None, "address of a Dask scheduler: tcp://host:8786")
_SEED = _integer("seed", 0, "of probes and resampling")
_SIGNATURE = _string("signature", None, "default: serving_default, or the only one")
_CACHE = _string("cache", None, "of float conversions; or none; default: ~/.cache/tfq")
_ALLOW_CODE = flags.DEFINE_boolean(
    "allow_code",
    False,
    "runs code in the model file; only if you trust it",
    flag_values=FLAGS,
)
_IMAGES = ImageFlags(FLAGS)


def _check_outputs(models: Sequence[str]) -> None:
    """Fails before any work for outputs that cannot be written, or would overwrite something."""
    taken = {os.path.realpath(m): "one of the models" for m in models}
    for flag in (_DATA, _SECOND):
        if flag.value:
            taken.setdefault(os.path.realpath(flag.value), "the data itself")
    for flag in (_REPORT, _JSON):
        if not flag.value:
            continue
        place = os.path.realpath(flag.value)
        if place in taken:
            raise UsageError(f"--{flag.name}={flag.value} is {taken[place]}. Give another name.")
        taken[place] = f"also --{flag.name}"
        check_output(flag.value)
    for flag in (_NODE_DATA, _PLOTS):
        if flag.value:
            _make_folder(flag.name, flag.value)
    if _NODE_DATA.value and not _LAYERS.value:
        raise UsageError("--node_data shows the error of layers, and --layers=false leaves it out.")


def _make_folder(flag: str, path: str) -> None:
    """Fails before any work where a folder cannot be had."""
    if os.path.exists(path) and not os.path.isdir(path):
        raise UsageError(f"--{flag}={path} is a file. Give the name of a folder.")
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as e:
        raise TfqError(f"--{flag}={path} cannot be made: {explain(e)}") from None
    check_output(os.path.join(path, "probe"))


def _command_line(args: Sequence[str]) -> str:
    groups = FLAGS.flags_by_module_dict().values()
    given = [f.serialize() for group in groups for f in group if f.present]
    return shlex.join(["python", "-m", "tfq.evaluate", *args, *given])


def _run(args: list[str]) -> int:
    from tfq.evaluate.run import evaluate_model
    from tfq.report import console, node_data, page, plots, require_plots, to_json

    if not args:
        raise UsageError("MODEL is missing: tfq evaluate MODEL... --data=SPEC.")
    if _DATA.value is None:
        raise UsageError("--data is missing: the samples that the models are run on, with labels.")
    _check_outputs(args)
    if _PLOTS.value:
        require_plots()
    start = time.perf_counter()
    with cli.Progress() as progress:
        result = evaluate_model(
            args,
            _DATA.value,
            reference=_REFERENCE.value,
            task=_TASK.value,
            metrics=_METRICS.value,
            output=_OUTPUT.value,
            scores=_SCORES.value,
            data_range=_DATA_RANGE.value,
            ignore_index=_IGNORE.value,
            second_data=_SECOND.value,
            data_options=_IMAGES.options(),
            samples=_SAMPLES.value,
            signature=_SIGNATURE.value,
            cache=_CACHE.value,
            allow_code=_ALLOW_CODE.value,
            layers=_LAYERS.value,
            layer_samples=_LAYER_SAMPLES.value,
            probes=_PROBES.value,
            workers=_WORKERS.value,
            scheduler=_SCHEDULER.value,
            seed=_SEED.value,
            command=_command_line(args),
            progress=progress,
        )
    # Files first: whoever reads the lines may stop reading.
    written = [path for path in (_REPORT.value, _JSON.value) if path]
    if _REPORT.value:
        write_atomic(_REPORT.value, page(result.report))
    if _JSON.value:
        write_atomic(_JSON.value, to_json(result.report))
    if _NODE_DATA.value:
        folder = Path(_NODE_DATA.value)
        for analysed in result.report["layers"]:
            body = json.dumps(node_data(result.report, analysed["model"]), indent=1)
            name = analysed["model"].replace(os.sep, "_")
            write_atomic(folder / f"{name}.json", body.encode())
            written.append(str(folder / f"{name}.json"))
    if _PLOTS.value:
        plots(result.report, _PLOTS.value)
        written.append(os.path.join(_PLOTS.value, ""))
    for line in console(result.report):
        cli.say(line)
    if _NODE_DATA.value and not result.report["layers"]:
        cli.say("  no node data: no model was compared layer by layer")
    if written:
        cli.say(f"  wrote     {', '.join(written)}")
    cached = f" (cached: {', '.join(result.cached)})" if result.cached else ""
    cli.say(f"  seconds   {time.perf_counter() - start:.1f}{cached}")
    return 0


COMMAND = cli.Command(
    "evaluate",
    "MODEL...",
    "Compares models on labelled data: accuracy, behaviour, error by layer.",
    FLAGS,
    _run,
    (
        "tfq evaluate model.keras model_int8.tflite --data=test.npz --report=page.html",
        "tfq evaluate a.tflite b.tflite --data=photos/ --metrics=top1,auc --workers=2",
    ),
)


def run_command(argv: list[str] | None = None) -> int:
    return cli.run(COMMAND, argv)
