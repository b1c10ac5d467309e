"""One process, and what holds wherever work runs: order, laziness, which error comes first."""

import pytest
from shard_works import NotPickled, Raises, Sums, Threads, arrays, numbers

from tfq.errors import DataError, TfqError, UsageError
from tfq.executors import Shard, open_workers


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2", None])
def test_workers_is_a_positive_integer(workers):
    with pytest.raises(UsageError, match=r"workers must be an integer of 1 or more\. Received: "):
        open_workers(workers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 2, "scheduler": "tcp://h:1"}, "Received: workers=2 and scheduler='tcp://h:1'"),
        ({"scheduler": 8786}, r"address of a Dask scheduler.*Received: 8786\."),
        ({"executor": "pool"}, r"must be a concurrent.futures.Executor\. Received: 'pool'\."),
    ],
)
def test_one_way_to_run(arguments, message):
    with pytest.raises(UsageError, match=message):
        open_workers(**arguments)


def test_a_client_is_not_an_executor():
    class Client:
        def get_executor(self):
            raise AssertionError

    with pytest.raises(UsageError, match=r"Pass client.get_executor\(\)\."):
        open_workers(executor=Client())


def test_this_process_pickles_nothing_and_pulls_one_shard_at_a_time():
    pulled = []

    def source():
        for shard in numbers(4):
            pulled.append(shard.index)
            yield shard

    with open_workers() as workers:
        assert (workers.count, workers.description) == (1, "this process")
        assert 1 <= workers.threads <= 4
        results = workers.map(NotPickled(), source())
        assert pulled == []
        for i, result in enumerate(results):
            assert result == i
            assert pulled == list(range(i + 1))


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_and_progress_counts_them(workers):
    done = []
    with open_workers(workers) as opened:
        results = list(opened.map(Raises([]), numbers(9), done.append))
    assert results == [10 * i for i in range(9)]
    assert done == list(range(1, 10))


def test_two_processes_give_the_same_bits_and_their_threads():
    with open_workers() as one, open_workers(2) as two:
        assert [r[0] for r in one.map(Sums(), arrays(7))] == [
            r[0] for r in two.map(Sums(), arrays(7))
        ]
        assert list(two.map(Threads(), numbers(2))) == [two.threads] * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_tfq_error_is_raised_as_it_is_the_lowest_shard_first(workers):
    seen = []
    with open_workers(workers) as opened, pytest.raises(DataError) as caught:
        seen.extend(opened.map(Raises([4, 5, 6], DataError), numbers(20)))
    assert str(caught.value) == "payload 4 is bad"
    assert seen == [0, 10, 20, 30]


@pytest.mark.parametrize("workers", [1, 2])
def test_another_exception_is_tried_three_times_and_named(workers):
    seen = []
    with open_workers(workers) as opened, pytest.raises(TfqError) as caught:
        seen.extend(opened.map(Raises([2]), numbers(5)))
    assert seen == [0, 10]
    assert "Samples 16 to 23 (shard 2) could not be worked on, 3 times over" in str(caught.value)
    assert "ValueError: payload 2 is bad" in str(caught.value)
    assert "raise self.kind" in str(caught.value.__cause__)  # Where, for those who look.


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_that_does_not_come_again_costs_nothing(workers, tmp_path):
    with open_workers(workers) as opened:
        work = Raises([3], flag=str(tmp_path / "flag"))
        assert list(opened.map(work, numbers(6))) == [0, 10, 20, 30, 40, 50]
    assert (tmp_path / "flag").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_shards_that_cannot_be_read_raise_after_all_before_them(workers):
    """The same error, whether the worker of an earlier shard or the reader is faster."""

    def source():
        yield from numbers(4)
        raise DataError("Sample 32 cannot be read.")

    seen = []
    with open_workers(workers) as opened:
        with pytest.raises(DataError, match="Sample 32 cannot be read"):
            seen.extend(opened.map(Raises([]), source()))
        assert seen == [0, 10, 20, 30]
        with pytest.raises(DataError, match="payload 3 is bad"):
            list(opened.map(Raises([3], DataError), source()))


def test_no_shards_no_results():
    with open_workers(2) as workers:
        assert list(workers.map(Raises([]), [])) == []


def test_a_message_starts_with_a_capital():
    with open_workers() as workers, pytest.raises(TfqError, match=r"^Layer conv of x \(shard 0\)"):
        list(workers.map(Raises([0]), [Shard(0, "layer conv of x", 0)]))
