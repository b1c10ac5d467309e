"""Denoiser cores: an LSTM cell whose state is an input and an output of the model.

One tensor packs h in [-1, 1] and c, which in a few units adds up to some 200 (their forget gates
are nearly open). The cells' weights are random, and the layer behind is fitted to the clean signal,
so that what the cores give is worth measuring: they denoise.
"""

import numpy as np
from small_models import Net

from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.graph.model import Model, Op, Tensor, options_type
from tfq.runtime import Runner

FRAME, UNITS, ADDING = 8, 24, 4


def core(seed: int, readout: np.ndarray | None = None) -> bytes:
    """x [1, 8] and state [1, 24, 2] -> y [1, 8] and the next state."""
    net = Net(seed)
    x = net.input(1, FRAME, name="x")
    state = net.input(1, UNITS, 2, name="state")
    h, c = _parts(net, "UNPACK", "UnpackOptions", [state], ["h", "c"], (1, UNITS), axis=2, num=2)
    bias = net.rng.normal(0, 0.3, (4, UNITS))
    read = net.rng.normal(0, 0.6 * FRAME**-0.5, (4, UNITS, FRAME))
    back = net.rng.normal(0, 0.4 * UNITS**-0.5, (4, UNITS, UNITS))
    # Input, forget and new: those that add up take in about one a step, and forget 1 in 500.
    for gate, value in ((0, 4.0), (1, 6.2), (2, 1.6)):
        bias[gate, :ADDING] = value
        read[gate, :ADDING] *= 0.2
        back[gate, :ADDING] *= 0.2
    gates = net.op(
        "ADD",
        net.dense(x, 4 * UNITS, weights=read.reshape(-1, FRAME), bias=bias.reshape(-1)),
        net.dense(h, 4 * UNITS, weights=back.reshape(-1, UNITS), bias=np.zeros(4 * UNITS)),
    )
    axis = net.const(1, "int32")
    names = ["zi", "zf", "zg", "zo"]
    zi, zf, zg, zo = _parts(
        net, "SPLIT", "SplitOptions", [axis, gates], names, (1, UNITS), numSplits=4
    )
    kept = net.op("MUL", net.op("LOGISTIC", zf), c)
    new = net.op("MUL", net.op("LOGISTIC", zi), net.op("TANH", zg))
    c_next = net.op("ADD", kept, new, out="c_next")
    h_next = net.op("MUL", net.op("LOGISTIC", zo), net.op("TANH", c_next), out="h_next")
    options = options_type("PackOptions")()
    options.axis, options.valuesCount = 2, 2
    packed = net.op("PACK", h_next, c_next, shape=(1, UNITS, 2), out="state_next", options=options)
    if readout is None:
        readout = np.zeros((FRAME, UNITS + FRAME + 1))
    seen = net.concat(h_next, x, out="seen")
    y = net.dense(seen, FRAME, weights=readout[:, :-1], bias=readout[:, -1], out="y")
    return net.bytes(y, packed)


def _parts(net, name, options_name, inputs, names, shape, **fields):
    options = options_type(options_name)()
    for key, value in fields.items():
        setattr(options, key, value)
    outputs = [Tensor(n, shape, "float32") for n in names]
    net.ops.append(Op(name, inputs, outputs, options))
    return outputs


def signals(count: int, frames: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clean and noisy sounds, [count, frames, 8]: a few slow tones each, and white noise."""
    rng = np.random.default_rng(seed)
    at = np.arange(frames * FRAME)
    tones = rng.uniform(0.02, 0.12, (count, 3, 1)), rng.uniform(0, 6.3, (count, 3, 1))
    clean = (rng.uniform(0.3, 1, (count, 3, 1)) * np.sin(tones[0] * at + tones[1])).sum(axis=1)
    noisy = clean + rng.normal(0, 0.5, clean.shape)
    shape = (count, frames, FRAME)
    return clean.reshape(shape).astype(np.float32), noisy.reshape(shape).astype(np.float32)


def run(model: bytes, sounds: np.ndarray) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
    """Each sound frame by frame, the state fed back: outputs, and what was fed."""
    runner, graph = Runner(model), Model.from_bytes(model)
    given = InputQuantizer(graph)
    out, fed = np.zeros(sounds.shape, np.float32), []
    for i, sound in enumerate(sounds):
        state = np.zeros((1, UNITS, 2), np.float32)
        for j, frame in enumerate(sound):
            sample = {"x": frame[None], "state": state}
            fed.append(sample)
            got = dequantized(graph, runner.run(given(sample)))
            out[i, j], state = got["y"][0], got["state_next"]
    return out, fed


def fitted(seed: int, noisy: np.ndarray, clean: np.ndarray) -> bytes:
    """A core whose last layer is fitted to give the clean sounds."""
    model = core(seed)
    _, fed = run(model, noisy)
    runner = Runner(model)
    h = np.array([runner.run(s)["state_next"][0, :, 0] for s in fed])
    rows = np.concatenate([h, noisy.reshape(-1, FRAME), np.ones((len(h), 1))], axis=1)
    normal = rows.T @ rows + 0.3 * np.eye(rows.shape[1])
    return core(seed, np.linalg.solve(normal, rows.T @ clean.reshape(-1, FRAME)).T)


def si_sdr(clean: np.ndarray, got: np.ndarray) -> float:
    """Scale-invariant signal to distortion ratio in dB, the mean over sounds [count, ...]."""
    found = []
    for c, g in zip(clean.reshape(len(clean), -1), got.reshape(len(got), -1), strict=True):
        c, g = c.astype(np.float64), g.astype(np.float64)
        target = c * (c @ g) / (c @ c)
        found.append(10 * np.log10((target @ target) / ((g - target) @ (g - target))))
    return float(np.mean(found))
