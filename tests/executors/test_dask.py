"""A real Dask scheduler and its workers, as processes on loopback."""

import importlib.util
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest
from dask_cluster import Cluster
from shard_works import Kills, Pids, Raises, Sums, Unsendable, arrays, numbers

from tfq.cores import threads_for
from tfq.errors import DataError, TfqError, UsageError
from tfq.executors import Shard, open_workers

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="pip install 'tfq[dask]'"
)
HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture
def cluster(tmp_path):
    opened = Cluster(tmp_path, HERE)
    yield opened
    opened.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_without_dask_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"Install it: pip install 'tfq\[dask\]'\."):
        open_workers(scheduler="tcp://127.0.0.1:8786")


@needs_dask
@pytest.mark.slow
@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:{port}", "127.0.0.1:{port}", "nonsense://x", "tcp://", "", "tcp:/"]
)
def test_a_scheduler_that_cannot_be_reached_is_one_quiet_error(address):
    address = address.format(port=free_port())
    code = f"from tfq.executors import open_workers\nopen_workers(scheduler={address!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[-1].startswith(f"tfq.errors.UsageError: No Dask scheduler answers at {address!r} ")
    assert not [line for line in lines if re.match(r"\d{4}-", line)]  # Lines of a log.
    assert "never" not in done.stderr  # "coroutine was never awaited", "exception never retrieved"


@needs_dask
@pytest.mark.slow
def test_something_else_that_listens_is_no_scheduler():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        with pytest.raises(UsageError, match="No Dask scheduler answers"):
            open_workers(scheduler=f"tcp://127.0.0.1:{deaf.getsockname()[1]}")


@needs_dask
@pytest.mark.slow
def test_a_scheduler_without_workers(cluster):
    with pytest.raises(TfqError, match=r"has no workers\. Start some: dask worker tcp://"):
        open_workers(scheduler=cluster.address)


@needs_dask
@pytest.mark.slow
def test_a_worker_without_tfq(cluster, tmp_path):
    fake = tmp_path / "fake" / "tfq"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'tfq'\")")
    cluster.worker("--no-nanny", path=[str(fake.parent)])
    with pytest.raises(TfqError, match=r"cannot run tfq \(.*No module named 'tfq'.*Install the"):
        open_workers(scheduler=cluster.address)


@needs_dask
@pytest.mark.slow
def test_a_worker_with_another_tfq(cluster, tmp_path):
    fake = tmp_path / "fake" / "tfq"
    (fake / "executors").mkdir(parents=True)
    (fake / "__init__.py").write_text('__version__ = "0.0.0.dev0"')
    (fake / "executors" / "__init__.py").touch()
    (fake / "executors" / "remote.py").touch()
    cluster.worker("--no-nanny", path=[str(fake.parent)])
    with pytest.raises(TfqError, match=r"has tfq 0\.0\.0\.dev0, this process "):
        open_workers(scheduler=cluster.address)


@needs_dask
@pytest.mark.slow
def test_two_workers_do_what_one_process_does(cluster, tmp_path, capfd):
    import distributed

    cluster.worker()
    cluster.worker()
    levels = logging.getLogger("distributed").level
    with open_workers() as here:
        expected = [r[0] for r in here.map(Sums(), arrays(20))]
    with open_workers(scheduler=cluster.address) as workers:
        assert workers.count == 2
        assert workers.description == f"Dask {cluster.address}, 2 workers"
        assert workers.threads == threads_for(2)
        log = tmp_path / "log"
        work = Sums(str(log), seconds=0.02, ballast=bytes(12 << 20))  # More than Dask likes.
        done, pids = [], set()
        for _ in range(2):
            results = list(workers.map(work, arrays(20), done.append))
            assert [value for value, _ in results] == expected
            pids |= {pid for _, pid in results}
        assert done == [*range(1, 21)] * 2
        assert len(pids) == 2
        assert sorted(int(line.split()[0]) for line in log.read_text().splitlines()) == sorted(pids)

        seen = []
        with pytest.raises(DataError, match="payload 4 is bad"):
            seen.extend(workers.map(Raises([4, 5], DataError), numbers(9)))
        assert seen == [0, 10, 20, 30]
        with pytest.raises(TfqError, match=r"Samples 32 to 39 \(shard 4\).*ValueError: payload 4"):
            list(workers.map(Raises([4]), numbers(9)))
        with pytest.raises(TfqError, match="3 times over: TypeError: cannot pickle"):
            list(workers.map(Unsendable(), numbers(9)))

        pulled = yielded = most = 0

        def source():
            nonlocal pulled, most
            for shard in numbers(20):
                pulled += 1
                most = max(most, pulled - yielded)
                yield shard

        for _ in workers.map(Raises([]), source()):
            yielded += 1
        assert (pulled, most) == (20, 5)
    assert logging.getLogger("distributed").level == levels
    assert capfd.readouterr() == ("", "")

    # And the same through a client of one's own, which stays open.
    with distributed.Client(cluster.address, set_as_default=False) as client:
        with open_workers(executor=client.get_executor()) as workers:
            assert workers.description == f"Dask {cluster.address}, 2 workers"
            assert [r[0] for r in workers.map(Sums(), arrays(20))] == expected
        only = next(iter(client.nthreads()))
        with open_workers(executor=client.get_executor(workers=[only])) as workers:
            assert workers.count == 1
            results = list(workers.map(Sums(), arrays(20)))
        assert [value for value, _ in results] == expected
        assert len({pid for _, pid in results}) == 1
        assert client.submit(int).result() == 0
    with pytest.raises(UsageError, match="client of the executor is closed"):
        open_workers(executor=client.get_executor())


@needs_dask
@pytest.mark.slow
def test_one_of_two_workers_killed_in_the_middle(cluster, capfd):
    cluster.worker()
    cluster.worker()
    with open_workers() as here:
        expected = [r[0] for r in here.map(Sums(), arrays(40))]
    results, pids = [], []
    with open_workers(scheduler=cluster.address) as workers:
        for value, pid in workers.map(Sums(seconds=0.05), arrays(40)):
            results.append(value)
            pids.append(pid)
            if len(results) == 8:
                os.kill(pid, signal.SIGKILL)
    assert results == expected
    assert len(set(pids)) == 2
    assert capfd.readouterr() == ("", "")


@needs_dask
@pytest.mark.slow
def test_the_only_worker_dies_and_its_nanny_starts_it_again(cluster, tmp_path):
    """The only copy of the work is lost with it."""
    cluster.worker("--nanny")
    log = tmp_path / "log"
    results, pids = [], []
    with open_workers(scheduler=cluster.address) as workers:
        for value, pid in workers.map(Sums(str(log), seconds=0.05), arrays(20)):
            results.append(value)
            pids.append(pid)
            if len(results) == 5:
                os.kill(pid, signal.SIGKILL)
    with open_workers() as here:
        assert results == [r[0] for r in here.map(Sums(), arrays(20))]
    assert len(log.read_text().splitlines()) == len(set(pids)) == 2


@needs_dask
@pytest.mark.slow
def test_a_shard_that_always_kills_its_worker_is_named(cluster):
    cluster.worker("--nanny")
    cluster.worker("--nanny")
    seen = []
    with open_workers(scheduler=cluster.address) as workers:
        with pytest.raises(TfqError) as caught:
            seen.extend(workers.map(Kills(3), numbers(10)))
        assert seen == [0, 10, 20]
        assert list(workers.map(Raises([]), numbers(3))) == [0, 10, 20]
    assert "Samples 24 to 31 (shard 3) could not be worked on: the worker" in str(caught.value)


@needs_dask
@pytest.mark.slow
def test_a_scheduler_that_is_lost_ends_the_map(cluster, tmp_path, capfd):
    cluster.worker()
    (tmp_path / "pids").mkdir()
    with open_workers(scheduler=cluster.address) as workers:
        results = workers.map(Pids(str(tmp_path / "pids"), 0.1), numbers(100))
        next(results)
        cluster.scheduler.kill()
        with pytest.raises(TfqError, match="connection to the Dask scheduler was lost"):
            list(results)
    assert capfd.readouterr() == ("", "")


@needs_dask
@pytest.mark.slow
def test_a_cluster_whose_workers_are_all_gone(cluster, monkeypatch):
    monkeypatch.setattr("tfq.executors.dask._NO_WORKERS_SECONDS", 3.0)
    worker = cluster.worker()
    with open_workers(scheduler=cluster.address) as workers:
        results = workers.map(Sums(seconds=0.05), arrays(100))
        next(results)
        worker.kill()
        with pytest.raises(TfqError, match="has had no workers for 3 s"):
            list(results)


@needs_dask
@pytest.mark.slow
def test_a_work_that_workers_cannot_import(cluster, monkeypatch):
    cluster.worker()
    module = types.ModuleType("only_here")
    exec("class Work:\n    def __call__(self, payload, threads):\n        return 0", vars(module))
    monkeypatch.setitem(sys.modules, "only_here", module)
    with (
        open_workers(scheduler=cluster.address) as workers,
        pytest.raises(TfqError, match=r"cannot load the work \(ModuleNotFoundError.*only_here"),
    ):
        list(workers.map(module.Work(), [Shard(0, "samples 0", 0)]))
