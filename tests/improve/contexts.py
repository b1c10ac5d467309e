"""What improvements are given in tests: models, samples, and nothing that calibrates again."""

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


def troubled(seed):
    """Something for every improvement: channels out of balance, high biases, many values with long
    tails, and a small tensor that is joined with a large one and read by a layer."""
    net = Net(seed)
    x = net.input(1, 8, 8, 3, name="x")
    sizes = 2.0 ** net.rng.uniform(-5, 5, 8)
    weights = net.rng.normal(0, 0.3, (8, 1, 1, 3)) * sizes.reshape(8, 1, 1, 1)
    y = net.conv(x, 8, size=1, act=ACT.RELU, weights=weights, bias=0.1 * sizes, out="a")
    behind = net.rng.normal(0, 0.5, (8, 1, 1, 8)) / sizes
    y = net.conv(y, 8, size=1, act=ACT.RELU, weights=behind, out="b")
    high = net.conv(y, 4, size=1, act=ACT.RELU, bias=[50, 0, 0, 30], out="high")
    outputs = [net.mean(net.conv(high, 4, out="c"), out="y0")]
    cubed = net.op("MUL", net.op("MUL", y, y, out="square"), y, out="cube")
    outputs.append(net.conv(cubed, 3, size=1, out="y1"))
    flat = net.mean(y, out="flat")
    small = net.op("TANH", net.dense(flat, 4, out="arg"), out="tanh")
    small = net.op("MUL", small, net.dense(flat, 4, out="gate"), out="small")
    large = net.dense(flat, 4, weights=net.rng.normal(0, 60, (4, 8)), out="large")
    outputs += [net.dense(small, 4, out="y2"), net.concat(small, large, out="joint")]
    return net.bytes(*outputs)
