"""Pruning, distillation and quantization together, on scikit-learn's handwritten digits.

1. A float model is trained: the teacher.
2. A copy of it is trained on while 70 % of each kernel's weights become zero, little by little; the
   depthwise kernel, which is small and sensitive, stays dense.
3. The copy is quantized, and trained on with its zeros held, on the labels and on the teacher's
   answers at once.
4. It is converted. The zeros are in the int8 file, and the report counts them there, with what they
   bring (a smaller compressed file) and what they do not (speed).

Takes about two minutes:

    python examples/training/prune_distill_quantize.py
"""

from __future__ import annotations

import keras
from classifiers import Table, compiled, conv_net, fit, load_digits, same_on_every_run

import tfq

SPARSITY = 0.7
PRUNE_EPOCHS, TRAIN_EPOCHS = 12, 8


def main() -> None:
    same_on_every_run(seed=1)
    images = load_digits()
    samples = images.x[:256]
    table = Table(images)

    teacher = conv_net(images.x.shape[1:])
    fit(teacher, images, epochs=20, rate=4e-3)
    table.add("float", teacher)
    dense = tfq.convert_model(teacher, samples).model
    table.add("int8, after training", dense)

    pruned = keras.models.clone_model(teacher)
    pruned.set_weights(teacher.get_weights())
    steps = PRUNE_EPOCHS * -(-len(images.x) // 64)
    growing = tfq.keras.PolynomialDecay(0.0, SPARSITY, 0, steps // 2, frequency=10)
    pruning = tfq.keras.prune(pruned, schedule=growing)
    fit(pruned, images, PRUNE_EPOCHS, rate=2e-3, callbacks=[pruning])
    table.add("float, pruned", pruned)

    student = tfq.keras.quantize(pruned, data=samples)
    distiller = compiled(tfq.keras.distill(teacher, student), images, TRAIN_EPOCHS, rate=1e-3)
    callbacks = [tfq.keras.Schedule(), tfq.keras.keep_sparsity(student)]
    distiller.fit(images.x, images.y, 64, TRAIN_EPOCHS, verbose=0, callbacks=callbacks)
    in_keras = table.add("int8, all three", student)
    sparse = tfq.convert_model(student).model
    in_litert = table.add("int8, all three", sparse)
    print(f"same answer in Keras and LiteRT: {(in_keras == in_litert).mean():.2%}\n")
    print(tfq.keras.pruning_report(sparse, baseline=dense))


if __name__ == "__main__":
    main()
