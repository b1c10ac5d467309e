"""Weights of 4 bits and of 1, trained and not, on scikit-learn's handwritten digits.

The same float model becomes an int8 file, files with weights of 4 and 2 bits by quantization after
training, and two by quantization-aware training: weights of 4 bits, and binary ones, a scale times
their sign. Activations have 8 bits everywhere. 4 bits are easy on this data, and so are 2 with
corrected biases; one bit is for training alone. The first, the last and the depthwise layer keep 8
bits in the 2-bit and the binary file. No stock convolution has weights of 2 bits or of 1: they are
stored in 4, so these files are no smaller than the 4-bit ones. Takes about three minutes:

    python examples/training/low_bits.py
"""

from __future__ import annotations

from classifiers import Table, conv_net, fit, load_digits, same_on_every_run

import tfq


def main() -> None:
    same_on_every_run(seed=1)
    images = load_digits()
    samples = images.x[:256]
    table = Table(images)

    model = conv_net(images.x.shape[1:])
    fit(model, images, epochs=20, rate=4e-3)
    table.add("float", model)
    table.add("int8, after training", tfq.convert_model(model, samples).model)
    narrow = tfq.convert_model(model, samples, weight_bits=4, weights="mse")
    table.add("4 bits, after training", narrow.model)
    edges = [tfq.LayerRule(regex="stem|depthwise|class", weight_bits=8)]
    narrow = tfq.convert_model(model, samples, weight_bits=2, weights="mse", rules=edges)
    table.add("2 bits, after training", narrow.model)

    for name, scheme in (("4 bits, trained", "w4a8"), ("binary, trained", "binary")):
        trained = tfq.keras.quantize(model, scheme, data=samples)
        fit(trained, images, epochs=12, rate=2e-3, callbacks=[tfq.keras.Schedule()])
        in_keras = table.add(name, trained)
        in_litert = table.add(name, tfq.convert_model(trained).model)
        print(f"{'':24}same answer in Keras and LiteRT: {(in_keras == in_litert).mean():.2%}")


if __name__ == "__main__":
    main()
