"""A linear regression before and after quantization: what 8 bits cost the smallest of models.

Five inputs, of which two matter: y = x0 - x3 + noise, the noise with a standard deviation of 0.1.
No model can have a mean squared error much below the noise's own, 0.01. The fitted model is
converted three ways, and each file is measured in LiteRT on samples that nothing was fitted to:

    float      as it was trained
    static     int8 throughout; the ranges of inputs and outputs come from representative samples
    dynamic    int8 weights, float inputs and outputs; needs no samples

Takes about half a minute:

    python examples/linear_regression/quantize.py
"""

from __future__ import annotations

import keras
import numpy as np

import tfq

WEIGHTS = np.array([1, 0, 0, -1, 0], np.float32)
NOISE = 0.1
SEED = 1


def sample(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs float32 [count, 5] and what is to be predicted, float32 [count, 1]."""
    x = rng.standard_normal((count, len(WEIGHTS)), np.float32)
    y = x @ WEIGHTS + NOISE * rng.standard_normal(count, np.float32)
    return x, y[:, None]


def main() -> None:
    keras.utils.set_random_seed(SEED)
    rng = np.random.default_rng(SEED)
    x, y = sample(rng, 1000)
    x_held, y_held = sample(rng, 1000)

    model = keras.Sequential([keras.Input((5,), name="x"), keras.layers.Dense(1, name="y")])
    model.compile(keras.optimizers.Adam(0.05), loss="mse")
    model.fit(x, y, batch_size=50, epochs=20, verbose=0)
    kernel, bias = model.layers[0].get_weights()
    print("weights ", " ".join(f"{w:+.3f}" for w in kernel.ravel()), f"bias {bias[0]:+.3f}")

    files = {
        "float": tfq.convert_model(model, scheme="float32").model,
        "static": tfq.convert_model(model, x, scheme="int8").model,
        "dynamic": tfq.convert_model(model, scheme="dynamic").model,
    }
    measured = tfq.evaluate_model(
        list(files.values()),
        {"x": x_held, "labels": y_held},
        task="regression",
        metrics="mse",
        layers=False,
        probes=0,
    )
    print(f"{'':8}{'bytes':>7}{'loss':>9}")
    losses = measured.report["metrics"][0]["values"]
    for (name, file), loss in zip(files.items(), losses, strict=True):
        print(f"{name:8}{len(file):>7}{loss['value']:>9.5f}")


if __name__ == "__main__":
    main()
