"""Quantization-aware training on Fashion-MNIST, from Debian's package of it.

As qat_digits.py, on 28 x 28 pixels, with more images and labels that are harder to tell apart. The
table also has the file that quantization after training gives, for comparison. Takes some five
minutes; --train, --epochs and --qat_epochs make it shorter or better:

    sudo apt-get install dataset-fashion-mnist
    python examples/training/qat_fashion_mnist.py
"""

from __future__ import annotations

import argparse
import pathlib

from classifiers import (
    FASHION_MNIST,
    Table,
    conv_net,
    fit,
    load_fashion_mnist,
    same_on_every_run,
)

import tfq


def main(args: argparse.Namespace) -> None:
    same_on_every_run(seed=1)
    images = load_fashion_mnist(args.folder, args.train, args.test)
    samples = images.x[:256]
    table = Table(images)

    model = conv_net(images.x.shape[1:])
    fit(model, images, args.epochs, rate=3e-3)
    table.add("float", model)
    table.add("int8, after training", tfq.convert_model(model, samples).model)

    trained = tfq.keras.quantize(model, data=samples)
    fit(trained, images, args.qat_epochs, rate=5e-4, callbacks=[tfq.keras.Schedule()])
    in_keras = table.add("int8, trained", trained)
    in_litert = table.add("int8, trained", tfq.convert_model(trained).model)
    print(f"same answer in Keras and LiteRT: {(in_keras == in_litert).mean():.2%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=20_000, help="images to train with")
    parser.add_argument("--test", type=int, default=10_000, help="images to measure on")
    parser.add_argument("--epochs", type=int, default=5, help="in float")
    parser.add_argument("--qat_epochs", type=int, default=3, help="with quantizers")
    parser.add_argument("--folder", type=pathlib.Path, default=FASHION_MNIST)
    main(parser.parse_args())
