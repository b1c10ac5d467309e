"""What a file may say that the schema allows and no model can mean."""

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from small_models import Net, cnn

from tfq.errors import ModelError
from tfq.graph.model import Model, Quant


def edited(data, change):
    """The file with its tables changed by `change(ModelT)`."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def per_channel():
    net = Net()
    x = net.input(1, 4)
    y = net.dense(x, 3)
    net.ops[0].inputs[1].quant = Quant(np.full(3, 0.1, np.float32), np.zeros(3, np.int64), 0)
    return net.bytes(y)


def weights(model):
    return next(t.quantization for t in model.subgraphs[0].tensors if t.quantization is not None)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("quantizedDimension", 2, "3 scales along dimension 2"),
        ("quantizedDimension", 1, "3 scales along dimension 1"),
        ("quantizedDimension", 7, "do not match"),
        ("quantizedDimension", -1, "do not match"),
        ("scale", np.array([0.1, 0.1], np.float32), "do not match"),
        ("scale", np.array([0.1, np.nan, 0.1], np.float32), "no positive number"),
        ("scale", np.array([0.1, np.inf, 0.1], np.float32), "no positive number"),
        ("scale", np.array([0.1, -0.1, 0.1], np.float32), "no positive number"),
    ],
)
def test_grids_that_no_tensor_can_have(field, value, says):
    data = edited(per_channel(), lambda m: setattr(weights(m), field, value))
    with pytest.raises(ModelError, match=says):
        Model.from_bytes(data)


@pytest.mark.parametrize("name", [b"x\0", b"\0", b"a\0b", b"\xff\xfe", b"\xed\xa0\x80"])
def test_names_by_which_litert_cannot_be_asked(name):
    data = edited(cnn(), lambda m: setattr(m.subgraphs[0].tensors[3], "name", name))
    with pytest.raises(ModelError, match=r"the name .* of a tensor is not UTF-8, or holds a NUL"):
        Model.from_bytes(data)


def test_names_in_other_scripts_are_text():
    name = "層/出力é"
    data = edited(cnn(), lambda m: setattr(m.subgraphs[0].tensors[3], "name", name))
    assert name in [t.name for t in Model.from_bytes(data).main.tensors()]


@pytest.mark.parametrize("code", [-1, 6, 31, 127])
@pytest.mark.parametrize("field", ["fusedActivationFunction", "padding"])
def test_codes_of_options_that_mean_nothing(field, code):
    def change(model):
        setattr(model.subgraphs[0].operators[0].builtinOptions, field, code)

    with pytest.raises(ModelError, match=f"CONV_2D has the unknown {field} {code}"):
        Model.from_bytes(edited(cnn(), change))


def test_options_of_another_op_are_damage():
    def change(model):
        first, second = model.subgraphs[0].operators[0], model.subgraphs[0].operators[2]
        first.builtinOptions, second.builtinOptions = second.builtinOptions, first.builtinOptions
        kinds = first.builtinOptionsType, second.builtinOptionsType
        second.builtinOptionsType, first.builtinOptionsType = kinds

    with pytest.raises(ModelError, match="CONV_2D has AddOptions, which are those of another op"):
        Model.from_bytes(edited(cnn(), change))


def test_options_that_are_left_out_are_the_defaults():
    def change(model):
        for op in model.subgraphs[0].operators:
            op.builtinOptions, op.builtinOptionsType = None, 0

    ops = Model.from_bytes(edited(cnn(), change)).main.ops
    assert [type(op.options).__name__ for op in ops[:3]] == [
        "Conv2DOptionsT",
        "Conv2DOptionsT",
        "AddOptionsT",
    ]
    assert ops[0].options.fusedActivationFunction == 0
    assert type(ops[-1].options).__name__ == "SoftmaxOptionsT"
