import pytest


@pytest.mark.parametrize(
    ("out", "padding", "stride", "taps"),
    [
        ((9, 9, 9), 1, 2, 3),
        ((8, 8, 8), 0, 2, 3),
        ((6, 6, 6), 1, 1, 3),
        ((4, 4, 4), 0, 1, 3),
        ((12, 12, 12), 0, 3, 2),
        ((10, 10, 10), 1, 2, 4),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_one_convolution(net, out, padding, stride, taps, batch):
    x = net.input(batch, 4, 4, 4, 2)
    shape = (batch, *out, 3)
    y = net.op("CONV_3D_TRANSPOSE", net.const(shape, "int32"), net.weights(taps, taps, taps, 3, 2),
               x, net.weights(3), shape=shape, dtype="float32", padding=padding, strideD=stride,
               strideH=stride, strideW=stride)  # fmt: skip
    names = net.rewritten(y, "replace_conv3d_transpose")
    assert names.count("TRANSPOSE_CONV") == 1
    assert set(names) <= {"RESHAPE", "PAD", "STRIDED_SLICE", "CONCATENATION", "TRANSPOSE_CONV"}
