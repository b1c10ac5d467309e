"""Start-up: what `import tfq` and the commands' help may load, and how long it may take."""

import resource
import subprocess
import sys

import pytest

import tfq

HEAVY = (
    *("tensorflow", "keras", "tf_keras", "rich", "scipy", "PIL"),
    *("sklearn", "skimage", "matplotlib", "dask", "distributed"),
)


def modules_after(code):
    report = f"{code}\nimport sys\nprint(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.splitlines()[-1].split())


def test_import_tfq_loads_nothing_heavy():
    loaded = modules_after("import tfq")
    assert loaded.isdisjoint({*HEAVY, "numpy", "ai_edge_litert", "absl"})


def test_help_loads_nothing_heavy():
    code = "import sys, tfq.__main__\ntfq.__main__.main([{!r}, '--help'])"
    for command in ("benchmark", "convert", "evaluate", "inspect"):
        assert modules_after(code.format(command)).isdisjoint(HEAVY), command


def test_every_public_name_is_there():
    assert set(tfq.__all__) <= set(dir(tfq))
    for name in tfq.__all__:
        assert getattr(tfq, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'convert_modle'"):
        _ = tfq.convert_modle


@pytest.mark.parametrize("command", ["tfq.benchmark", "tfq.convert", "tfq.evaluate", "tfq.inspect"])
def test_help_fits_a_screen_and_starts_at_once(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", command, "--help"], capture_output=True, text=True, timeout=60
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu < 0.5
