"""What improvements are given in tests: a model, samples, and nothing that calibrates again."""

from small_models import ACT, Net

from tfq.improve import Context


def context(fit, check, **options):
    def never(prepared, tensors):
        raise AssertionError("nothing is calibrated again")

    def progress(what, done, total):
        assert total is None or done <= total, what
        if what.startswith("Trying ") and total is not None:
            assert done < total, f"{what}: one more was tried"

    given = {"measure": never, "budget": 1e10, "progress": progress}
    return Context(fit, check, **{**given, **options})


def several(seed):
    """Layers one behind the other, each with an output of its own; some squashed, one joined."""
    net = Net(seed)
    size = float(2.0 ** net.rng.integers(-2, 4))
    x = net.input(1, 16, name="x")
    y = net.dense(x, 24, act=ACT.RELU, out="a")
    outputs = [net.op("LOGISTIC", net.dense(y, 3, out="arg"), out="score")]
    for i in range(3):
        y = net.dense(y, 24, act=ACT.RELU if i % 2 else 0, out=f"b{i}")
        outputs.append(net.dense(y, 5, out=f"y{i}"))
    wide = net.dense(y, 4, weights=net.rng.normal(0, 5 * size, (4, 24)), out="wide")
    outputs.append(net.concat(wide, net.dense(y, 4, out="narrow"), out="joint"))
    return net.bytes(*outputs)
