"""Quantization-aware training in six lines, on scikit-learn's handwritten digits.

A float model is trained, quantized, trained on for a few epochs with the rounding it will be
shipped with, and converted. The table shows the accuracy of each on digits that training has not
seen, and on how many of them the file in LiteRT gives the answer of the model in Keras. Takes about
a minute:

    python examples/training/qat_digits.py
"""

from __future__ import annotations

from classifiers import Table, conv_net, fit, load_digits, same_on_every_run

import tfq


def main() -> None:
    same_on_every_run(seed=1)
    images = load_digits()
    table = Table(images)

    model = conv_net(images.x.shape[1:])
    fit(model, images, epochs=20, rate=4e-3)
    table.add("float", model)

    trained = tfq.keras.quantize(model, data=images.x[:256])
    fit(trained, images, epochs=8, rate=4e-4, callbacks=[tfq.keras.Schedule()])
    in_keras = table.add("int8, trained", trained)

    file = tfq.convert_model(trained).model
    in_litert = table.add("int8, trained", file)
    print(f"same answer in Keras and LiteRT: {(in_keras == in_litert).mean():.2%}")


if __name__ == "__main__":
    main()
