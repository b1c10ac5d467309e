"""`python -m tfq.benchmark MODEL... [flags]`: the flags, and what is printed."""

from __future__ import annotations

from absl import flags

from tfq import cli
from tfq.files import check_output

FLAGS = flags.FlagValues()


def _string(name: str, default: str | None, text: str) -> flags.FlagHolder:
    return flags.DEFINE_string(name, default, text, flag_values=FLAGS)


_TARGET = flags.DEFINE_multi_string(
    "target", ["cpu"], "where; may be given again; or package.module:TARGET", flag_values=FLAGS
)
_THREADS = flags.DEFINE_integer("threads", 1, "CPU threads", flag_values=FLAGS)
_KERNELS = _string("kernels", "xnnpack", "or builtin, reference")
_RUNS = flags.DEFINE_integer("runs", 200, "runs of each model", flag_values=FLAGS)
_SECONDS = flags.DEFINE_float(
    "seconds", 10.0, "at most about so long for each model", flag_values=FLAGS
)
_JSON = _string("json", None, "write all figures here")
_DATA = _string("data", None, "samples to convert a source with; default: its own, or random")
_SCHEME = _string("scheme", "int8", "to convert a source to")
_SIGNATURE = _string("signature", None, "of a source")
_ALLOW_CODE = flags.DEFINE_boolean(
    "allow_code", False, "runs code in a source; only if you trust it", flag_values=FLAGS
)
_CACHE = _string("cache", None, "of float conversions; or none; default: ~/.cache/tfq")


def _run(args: list[str]) -> int:
    from tfq.benchmark.run import benchmark_model

    if _JSON.value:
        check_output(_JSON.value)
    with cli.Progress() as progress:
        result = benchmark_model(
            args,
            _TARGET.value,
            data=_DATA.value,
            scheme=_SCHEME.value,
            threads=_THREADS.value,
            kernels=_KERNELS.value,
            runs=_RUNS.value,
            seconds=_SECONDS.value,
            signature=_SIGNATURE.value,
            allow_code=_ALLOW_CODE.value,
            cache=_CACHE.value,
            progress=progress,
        )
    if _JSON.value:
        result.save_json(_JSON.value)
    for line in result.lines():
        cli.say(line)
    return 0


COMMAND = cli.Command(
    "benchmark",
    "MODEL...",
    "Runs models side by side on a target: time, memory, and which op runs where. "
    "A .tflite is measured as it is; a source is converted first, its float form beside it.",
    FLAGS,
    _run,
    ("tfq benchmark float.tflite int8.tflite --threads=2 --json=figures.json",),
)


def run_command(argv: list[str] | None = None) -> int:
    return cli.run(COMMAND, argv)
