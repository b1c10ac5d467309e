"""Executors of `concurrent.futures` that someone else opened."""

import multiprocessing
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from shard_works import Kills, OneThreadOnly, Raises, Sums, arrays, numbers

from tfq.errors import DataError, TfqError, UsageError
from tfq.executors import open_workers


def test_threads_each_have_their_own_copy_of_the_work():
    with ThreadPoolExecutor(3) as executor:
        with open_workers(executor=executor) as workers:
            assert workers.count == 3
            assert workers.description == "ThreadPoolExecutor, 3 workers"
            results = list(workers.map(OneThreadOnly(), numbers(30)))
        assert executor.submit(int).result() == 0  # Still open.
    assert {callers for callers, _, _ in results} == {1}
    pairs = {(copy, thread) for _, copy, thread in results}
    assert len({thread for _, thread in pairs}) == len(pairs) > 1
    assert threading.get_ident() not in {thread for _, thread in pairs}


def test_the_work_reaches_each_thread_once(tmp_path):
    log = tmp_path / "log"
    with ThreadPoolExecutor(2) as executor, open_workers(executor=executor) as workers:
        list(workers.map(Sums(str(log), seconds=0.01), arrays(20)))
    lines = log.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 2


def test_errors_are_those_of_the_other_ways():
    with ThreadPoolExecutor(2) as executor, open_workers(executor=executor) as workers:
        with pytest.raises(DataError, match="payload 4 is bad"):
            list(workers.map(Raises([4, 5], DataError), numbers(9)))
        with pytest.raises(TfqError, match=r"Samples 32 to 39 \(shard 4\).*ValueError"):
            list(workers.map(Raises([4]), numbers(9)))


def test_a_process_pool_of_ones_own():
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(2, mp_context=context) as executor,
        open_workers(executor=executor) as workers,
        open_workers() as here,
    ):
        expected = [r[0] for r in here.map(Sums(), arrays(6))]
        assert [r[0] for r in workers.map(Sums(), arrays(6))] == expected
        with pytest.raises(TfqError, match=r"worker of the executor died.*workers=N"):
            list(workers.map(Kills(3), numbers(6)))
        with pytest.raises(TfqError, match=r"worker of the executor died"):
            list(workers.map(Raises([]), numbers(6)))


def test_an_executor_that_is_shut_down():
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with (
        open_workers(executor=executor) as workers,
        pytest.raises(UsageError, match="takes no work"),
    ):
        list(workers.map(Raises([]), numbers(1)))


def test_an_executor_of_unknown_size_gets_one_thread_a_shard():
    class Inline(Executor):
        def submit(self, fn, /, *args, **kwargs):
            future = Future()
            future.set_result(fn(*args, **kwargs))
            return future

    with open_workers(executor=Inline()) as workers:
        assert workers.threads == 1
        assert list(workers.map(Raises([]), numbers(3))) == [0, 10, 20]
