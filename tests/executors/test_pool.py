"""The pool of processes: deaths, orphans, what workers hold, scripts without a main guard."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from shard_works import (
    Aborts,
    Kills,
    OddError,
    Peak,
    Pids,
    Raises,
    Sums,
    Unsendable,
    arrays,
    numbers,
)

from tfq.errors import TfqError
from tfq.executors import Shard, open_workers
from tfq.executors.pool import ProcessPool
from tfq.executors.shards import WorkerDiedError

HERE = Path(__file__).parent


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_at_most_five_shards_are_pulled_ahead_of_two_workers():
    ahead = []
    pulled = yielded = 0

    def source():
        nonlocal pulled
        for shard in numbers(40):
            pulled += 1
            ahead.append(pulled - yielded)
            yield shard

    with open_workers(2) as workers:
        for _ in workers.map(Raises([]), source()):
            yielded += 1
    assert (pulled, yielded) == (40, 40)
    assert max(ahead) == 5


def test_the_work_reaches_each_process_once_over_two_maps(tmp_path):
    log = tmp_path / "log"
    work = Sums(str(log), seconds=0.01)
    with open_workers(2) as workers:
        pids = {pid for _, pid in workers.map(work, arrays(20))}
        pids |= {pid for _, pid in workers.map(work, arrays(20))}
    unpicklings = [int(line.split()[0]) for line in log.read_text().splitlines()]
    assert os.getpid() not in pids
    assert sorted(unpicklings) == sorted(pids)


def test_payloads_arrive_writable_and_whole():
    class_of_all = [
        np.arange(6.0).reshape(2, 3).T,  # Not contiguous in C order.
        np.zeros((0, 4), np.float32),
        np.full(3 << 20, 7, np.uint8),
    ]
    with open_workers(2) as workers:
        shards = [Shard(i, f"array {i}", a) for i, a in enumerate(class_of_all) if a.size]
        sums = [r[0] for r in workers.map(Sums(), shards)]
    assert sums[0] == 15.0
    assert sums[1] == float(np.cumsum(np.full(3 << 20, 7, np.float32))[-1])
    pool = ProcessPool(1, 1, "/nonexistent/folder")
    try:
        for array in class_of_all:
            back = pool.submit(np.asarray, array).result()
            assert back.dtype == array.dtype
            np.testing.assert_array_equal(back, array)
            assert back.flags.writeable
    finally:
        pool.shutdown()


def test_a_worker_killed_in_the_middle_loses_nothing(tmp_path):
    with open_workers() as workers:
        expected = [r[0] for r in workers.map(Sums(), arrays(30))]
    results, pids = [], []
    with open_workers(2) as workers:
        for value, pid in workers.map(Sums(seconds=0.02), arrays(30)):
            results.append(value)
            pids.append(pid)
            if len(results) == 5:
                os.kill(pid, signal.SIGKILL)
    assert results == expected
    assert len(set(pids)) == 3


def test_a_work_that_kills_its_worker_once_is_run_again(tmp_path):
    with open_workers(2) as workers:
        work = Kills(3, flag=str(tmp_path / "flag"))
        assert list(workers.map(work, numbers(10))) == [10 * i for i in range(10)]


def test_a_shard_that_always_kills_its_worker_is_named_and_the_pool_lives_on():
    seen = []
    with open_workers(2) as workers:
        with pytest.raises(TfqError) as caught:
            seen.extend(workers.map(Kills(3), numbers(10)))
        assert list(workers.map(Raises([]), numbers(3))) == [0, 10, 20]
    assert seen == [0, 10, 20]
    message = str(caught.value)
    assert message.startswith("Samples 24 to 31 (shard 3) could not be worked on: the worker ")
    assert "died 3 times (SIGKILL)" in message
    assert "fewer workers" in message


def test_a_crash_is_told_with_its_last_words(capfd):
    with (
        open_workers(2) as workers,
        pytest.raises(TfqError, match=r"\(SIGABRT: RUY_CHECK failed\)"),
    ):
        list(workers.map(Aborts(), numbers(2)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (Raises([2], OddError), "^payload 2 is badtwo$"),  # A class that cannot be unpickled.
        (Unsendable(), r"3 times over: TypeError: cannot pickle"),
        (lambda payload, threads: 0, r"The work cannot be sent to other processes \("),
    ],
)
def test_what_cannot_be_pickled_is_one_error(work, message):
    with open_workers(2) as workers, pytest.raises(TfqError, match=message):
        list(workers.map(work, numbers(4)))


def test_a_payload_that_cannot_be_pickled_is_named():
    shards = [Shard(0, "samples 0 to 7", threading.Lock())]
    with open_workers(2) as workers, pytest.raises(TfqError, match=r"Samples 0 to 7.*TypeError"):
        list(workers.map(Raises([]), shards))


def test_a_map_that_is_left_early_does_not_disturb_the_next():
    with open_workers(2) as workers:
        results = workers.map(Raises([]), numbers(50))
        assert next(results) == 0
        results.close()
        assert list(workers.map(Raises([]), numbers(3))) == [0, 10, 20]


def test_closing_ends_the_processes_in_the_middle_of_a_shard_and_removes_the_folder(tmp_path):
    with open_workers(2) as workers:
        results = workers.map(Pids(str(tmp_path), 60.0), numbers(4))
        consumer = threading.Thread(target=lambda: _swallow(results))
        consumer.start()
        assert wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        folder = Path(workers._folder)
        assert folder.is_dir()
    consumer.join(30)
    assert not consumer.is_alive()
    assert not any(alive(path.name) for path in tmp_path.iterdir())
    assert not folder.exists()


def _swallow(results):
    with contextlib.suppress(TfqError):
        list(results)


def test_a_closed_pool_takes_no_calls_and_cancels_those_that_wait(tmp_path):
    pool = ProcessPool(1, 1, str(tmp_path))
    first = pool.submit(time.sleep, 60)
    second = pool.submit(time.sleep, 60)
    assert wait_until(first.running)
    pool.shutdown()
    assert isinstance(first.exception(), WorkerDiedError)
    assert second.cancelled()
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(time.sleep, 0)


def test_memory_of_workers_does_not_grow_with_the_number_of_shards():
    def source(count):
        for i in range(count):
            yield Shard(i, f"samples {i}", np.full(1 << 20, i % 100, np.uint8))

    with open_workers(2) as workers:
        early = max(workers.map(Peak(), source(20)))
        late = max(workers.map(Peak(), source(200)))
    assert late - early < 16_000  # KB; 180 payloads are 184,000.


SCRIPT = """
    import sys
    sys.path.insert(0, {here!r})
    from shard_works import Raises, numbers
    from tfq.executors import open_workers
    print("once")
    with open_workers(2) as workers:
        print(*workers.map(Raises([]), numbers(5)))
"""


@pytest.mark.parametrize("how", ["file", "stdin", "-c"])
def test_a_script_needs_no_main_guard(how, tmp_path):
    code = textwrap.dedent(SCRIPT.format(here=str(HERE)))
    path = tmp_path / "script.py"
    path.write_text(code)
    command = {"file": [str(path)], "stdin": ["-"], "-c": ["-c", code]}[how]
    done = subprocess.run(
        [sys.executable, *command],
        input=code if how == "stdin" else "",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "once\n0 10 20 30 40\n"


def test_a_work_of_the_script_itself_is_one_clear_error(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(
        textwrap.dedent(
            """
            from tfq.executors import Shard, open_workers

            def work(payload, threads):
                return payload

            with open_workers(2) as workers:
                list(workers.map(work, [Shard(0, "samples", 0)]))
            """
        )
    )
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("tfq.errors.TfqError: A worker cannot load the work (AttributeError")
    assert last.endswith("what a script itself defines has to move into a module.")


PARENT = """
    import sys
    sys.path.insert(0, {here!r})
    from shard_works import Pids, numbers
    from tfq.executors import open_workers
    with open_workers(2) as workers:
        print(workers._folder, flush=True)
        list(workers.map(Pids({pids!r}, 60.0), numbers(4)))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_orphans_when_the_parent_is_ended(number, tmp_path):
    code = textwrap.dedent(PARENT.format(here=str(HERE), pids=str(tmp_path)))
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with parent:
        folder = Path(parent.stdout.readline().strip())
        assert wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        pids = [path.name for path in tmp_path.iterdir()]
        os.killpg(parent.pid, number)
        assert parent.wait(30) == -number
        assert ("KeyboardInterrupt" in parent.stderr.read()) == (number == signal.SIGINT)
    assert wait_until(lambda: not any(alive(pid) for pid in pids))
    assert wait_until(lambda: not folder.exists())
