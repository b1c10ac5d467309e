"""The loop against runs by hand, one observer at a time and all at once."""

import copy
import itertools
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from small_models import Net, cnn, draw, plan_of

from tfq.errors import DataError, ModelError, UsageError
from tfq.executors import open_workers
from tfq.graph.boundary import InputQuantizer
from tfq.graph.model import Graph, Model, Op, Tensor
from tfq.graph.numerics import Grid, dequantize
from tfq.observe import (
    FLOAT,
    INTEGER,
    ChannelObserver,
    ErrorObserver,
    ExtremesObserver,
    Observer,
    Read,
    Renamed,
    SketchObserver,
    ValuesObserver,
    loop,
    observe,
)
from tfq.observe.sketch import Sketch
from tfq.runtime import Runner


class Case:
    """A float model beside its int8 form, with every tensor of both on every sample."""

    def __init__(self):
        planned = plan_of(cnn())
        emitted = planned.emit().model
        self.models = {FLOAT: planned.prepared.bytes, INTEGER: emitted.to_bytes()}
        self.samples = draw(self.models[FLOAT], 23)
        self.seen = {}
        for name, data in self.models.items():
            model, runner = Model.from_bytes(data), Runner(data, keep_intermediates=True)
            feed = InputQuantizer(model)
            every = []
            for sample in self.samples:
                runner.run(feed(sample))
                every.append({t.name: runner.tensor(i) for i, t in enumerate(model.main.tensors())})
            self.seen[name] = every
        (point,) = (t for t in emitted.main.tensors() if t.name == "point")
        self.grid = Grid.of(point.dtype, point.quant)

    def all_of(self, tensor, model=FLOAT):
        return np.stack([s[tensor] for s in self.seen[model]])


@pytest.fixture(scope="module")
def case():
    return Case()


def every_kind(case):
    return {
        "sketch": SketchObserver(Read("conv"), bounds=(0, np.inf)),
        "extremes": ExtremesObserver(Read("image")),
        "channels": ChannelObserver(Read("point"), 6),
        "integer channels": ChannelObserver(Read("point", INTEGER), 6),
        "error": ErrorObserver(Read("point"), Read("point", INTEGER), case.grid),
        "values": ValuesObserver([Read("probabilities"), Read("image", INTEGER)]),
    }


def results(observers):
    """Everything that they found, bit for bit."""
    o = observers
    return pickle.dumps(
        [
            {k: np.asarray(v).tobytes() for k, v in o["sketch"].sketch.state().items()},
            (o["extremes"].low, o["extremes"].high),
            [v.tobytes() for v in vars(o["channels"].result()).values()],
            [v.tobytes() for v in vars(o["integer channels"].result()).values()],
            o["error"].result(),
            [[v.tobytes() for v in values] for values in o["values"].result()],
        ]
    )


def test_every_observer_finds_what_numpy_does(case):
    seen = every_kind(case)
    counts = []
    assert observe(case.models, iter(case.samples), list(seen.values()), progress=counts.append)
    assert counts == list(range(1, 24))

    conv, image, point = (case.all_of(n) for n in ("conv", "image", "point"))
    sketch = Sketch()
    for value in conv:
        sketch.update(value)
    assert seen["sketch"].sketch == sketch
    assert (seen["extremes"].low, seen["extremes"].high) == (image.min(), image.max())

    for name, values in (("channels", point), ("integer channels", case.all_of("point", INTEGER))):
        rows = values.reshape(-1, 6).astype(np.float64)
        found = seen[name].result()
        np.testing.assert_array_equal(found.low, rows.min(axis=0))
        np.testing.assert_array_equal(found.high, rows.max(axis=0))
        np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(found.square, (rows**2).mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(found.nonzero, (rows != 0).mean(axis=0), rtol=1e-12)

    real = dequantize(case.all_of("point", INTEGER), case.grid)
    power, error = seen["error"].result()
    assert power == pytest.approx(np.sum(point.astype(np.float64) ** 2))
    assert error == pytest.approx(np.sum((point.astype(np.float64) - real) ** 2))
    kept = seen["values"].result()
    np.testing.assert_array_equal([v[0] for v in kept], case.all_of("probabilities"))
    np.testing.assert_array_equal([v[1] for v in kept], case.all_of("image", INTEGER))


def test_workers_and_the_order_of_shards_change_no_bit(case, monkeypatch):
    monkeypatch.setattr("tfq.observe.loop._BLOCK_SAMPLES", 6)
    alone = every_kind(case)
    observe(case.models, case.samples, list(alone.values()))
    expected = results(alone)
    shared, counts = every_kind(case), []
    with open_workers(executor=ThreadPoolExecutor(2)) as workers:
        observe(
            case.models,
            case.samples,
            list(shared.values()),
            workers=workers,
            progress=counts.append,
        )
    assert results(shared) == expected
    assert counts == [6, 12, 18, 23]

    parts = []
    for shard in loop._shards(case.samples, 6):
        part = every_kind(case)
        models = {name: Renamed(data) for name, data in case.models.items()}
        work = loop._Work(models, list(part.values()), restart=False, ahead=False)
        _, seen = work(shard.payload, 1)
        parts.append(dict(zip(part, seen, strict=True)))
    for order in itertools.permutations(range(4)):
        (a, b, c, d) = (copy.deepcopy(parts[i]) for i in order)
        for x, y in ((a, b), (c, d), (c, a)):  # Neither from left to right nor from right to left.
            for name, observer in x.items():
                observer.merge(y[name])
        assert results(c) == expected


class Lengths(Observer):
    """Not to be shared out."""

    tensors = (Read("out"),)

    def __init__(self):
        self.numbers = []

    def update(self, number, values):
        self.numbers.append(number)


def tanh(*names):
    tensors = [Tensor(n, (2,), "float32") for n in names]
    ops = [Op("TANH", [a], [b]) for a, b in itertools.pairwise(tensors)]
    return Model([Graph("main", ops, tensors[:1], tensors[-1:])]).to_bytes()


ZEROS = {"x": np.zeros(2, np.float32)}


@pytest.mark.parametrize(
    ("observer", "error", "message"),
    [
        (ExtremesObserver(Read("outt")), UsageError, "'outt' in its main graph.*mean 'out'"),
        (ExtremesObserver(Read("out", INTEGER)), UsageError, "model 'integer'; there are"),
        (ExtremesObserver(Read("same")), ModelError, "2 tensors are named 'same'"),
    ],
)
def test_what_cannot_be_read(observer, error, message):
    with pytest.raises(error, match=message):
        observe(tanh("x", "same", "same", "out"), [ZEROS], [observer])


def test_an_observer_without_merge_sees_all_samples_in_order_or_none():
    lengths = Lengths()
    with (
        open_workers(executor=ThreadPoolExecutor(2)) as workers,
        pytest.raises(UsageError, match="Lengths has to see all samples in their order"),
    ):
        observe(tanh("x", "out"), [ZEROS] * 3, [lengths], workers=workers)
    assert observe(tanh("x", "out"), [ZEROS] * 3, [lengths]) == 3
    assert lengths.numbers == [0, 1, 2]


def test_bad_values_are_named_with_their_model_and_sample():
    net = Net()
    broken = net.bytes(net.op("LOG", net.input(2, name="x"), out="out"))
    models = {FLOAT: tanh("x", "out"), "broken": broken}
    good = {"x": np.ones(2, np.float32)}
    with pytest.raises(DataError, match="Tensor 'out' holds infinite values when the broken model"):
        observe(models, [good, ZEROS], [SketchObserver(Read("out", "broken"))])
    with pytest.raises(DataError, match=r"Sample 1 does not fit input 'x'.*float32\[2\]\. Rec"):
        observe(models, [good, {"x": np.ones(3, np.float32)}], [])
    with pytest.raises(DataError, match=r"Sample 0 does not have exactly.*'x'.*'y'"):
        observe(models, [{"y": np.ones(2, np.float32)}], [])


class Refusing(Lengths):
    def update(self, number, values):
        raise ModelError("The two models differ.")


def test_what_an_observer_says_of_the_models_is_said_as_it_is():
    with pytest.raises(ModelError, match=r"^The two models differ\.$"):
        observe(tanh("x", "out"), [ZEROS], [Refusing()])


def test_extremes_come_in_passing_only_where_nothing_more_is_read(monkeypatch):
    made = []

    class Spy(Runner):
        def __init__(self, model, **options):
            made.append((options.get("ranges", False), options.get("keep_intermediates", False)))
            super().__init__(model, **options)

    monkeypatch.setattr("tfq.observe.side.Runner", Spy)
    model, extremes = tanh("x", "mid", "out"), ExtremesObserver(Read("mid"))
    observe(model, [{"x": np.array([-1, 2], np.float32)}], [extremes])
    np.testing.assert_allclose((extremes.low, extremes.high), np.tanh([-1, 2]), rtol=1e-6)
    observe(model, [ZEROS], [extremes, ValuesObserver([Read("mid")])])
    observe(model, [ZEROS], [ValuesObserver([Read("out")])])
    placed = ExtremesObserver(Read(1))
    observe(model, [{"x": np.array([-1, 2], np.float32)}], [placed])
    assert (placed.low, placed.high) == (extremes.low, extremes.high)
    assert made == [(True, False), (False, True), (False, False), (False, True)]


class Halves(Observer):
    """Adds up in the second half what the first half saw."""

    tensors = (Read("out"),)

    def __init__(self):
        self.seen, self.threads, self.order = [], set(), []

    def look(self, number, values):
        self.seen.append(float(values[0][0]))
        self.threads.add(threading.get_ident())

    def update(self, number, values):
        assert self.seen[number] == float(values[0][0])
        self.order.append(number)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_next_sample_runs_ahead(threads):
    samples = [{"x": np.full(2, n / 10, np.float32)} for n in range(9)]
    halves = Halves()
    counts = []
    observe(
        tanh("x", "mid", "out"),
        iter(samples),
        [halves],
        ahead=True,
        threads=threads,
        progress=counts.append,
    )
    assert counts == list(range(1, 10))
    assert halves.order == list(range(9))
    np.testing.assert_allclose(halves.seen, np.tanh(np.tanh(np.arange(9) / 10)), atol=1e-6)
    assert (threading.get_ident() in halves.threads) == (threads == 1)
    with pytest.raises(DataError, match="Sample 3 does not have exactly"):
        observe(tanh("x", "out"), [*samples[:3], {}], [Halves()], ahead=True, threads=threads)


def test_a_model_may_have_inputs_of_other_names_and_tensors_be_read_by_position():
    models = {FLOAT: tanh("x", "out"), "other": Renamed(tanh("a", "b", "c"), {"a": "x"})}
    values = ValuesObserver([Read("out"), Read("b", "other"), Read(0, "other"), Read(2, "other")])
    x = np.array([0.5, -2], np.float32)
    observe(models, [{"x": x}], [values])
    ((out, b, a, c),) = values.result()
    np.testing.assert_array_equal(out, b)
    np.testing.assert_array_equal(a, x)
    np.testing.assert_allclose(c, np.tanh(np.tanh(x)), rtol=1e-6)


def test_a_tensor_without_axes_is_an_array():
    x, y = Tensor("x", (), "float32"), Tensor("y", (), "float32")
    model = Model([Graph("main", [Op("TANH", [x], [y])], [x], [y])]).to_bytes()
    channels, values = ChannelObserver(Read("y"), 1), ValuesObserver([Read("y"), Read(1)])
    assert observe(model, [{"x": np.array(2, np.float32)}], [channels, values]) == 1
    ((named, placed),) = values.result()
    assert named.shape == placed.shape == ()
    np.testing.assert_allclose(channels.result().mean, [np.tanh(2)], rtol=1e-6)


def test_values_can_be_kept_in_part(case):
    values = ValuesObserver([Read("conv")], part=_first_row)
    observe(case.models[FLOAT], case.samples[:2], [values])
    (a,), (b,) = values.result()
    np.testing.assert_array_equal(a, case.seen[FLOAT][0]["conv"][0, 0])
    np.testing.assert_array_equal(b, case.seen[FLOAT][1]["conv"][0, 0])


def _first_row(values):
    return values[0, 0]
