"""`.tflite` files read, rewired and written."""

import random

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tfq.errors import ModelError
from tfq.graph.model import (
    OP_CODES,
    OP_NAMES,
    PACKED_BITS,
    Graph,
    Model,
    Op,
    Quant,
    Signature,
    Tensor,
    numpy_dtype,
    options_type,
)
from tfq.runtime import Runner


def everything() -> Model:
    """A model that uses every field there is."""
    rng = np.random.default_rng(0)
    x = Tensor("x:0", (1, 6), "int8", quant=Quant.per_tensor(0.1, -3), signature=(-1, 6))
    scale = np.linspace(0.01, 0.08, 8, dtype=np.float32)
    w = Tensor(
        "w",
        (8, 6),
        "int8",
        rng.integers(-127, 128, (8, 6)).astype(np.int8),
        Quant(scale, np.zeros(8, np.int64), 0),
    )
    b = Tensor(
        "b",
        (8,),
        "int32",
        rng.integers(-9, 9, 8).astype(np.int32),
        Quant(np.float32(0.1) * scale, np.zeros(8, np.int64), 0),
    )
    h = Tensor("h", (1, 8), "int8", quant=Quant.per_tensor(0.2, 5))
    y = Tensor("y", (1, 8), "int8", quant=Quant.per_tensor(0.2, 5))
    z = Tensor("z", (1, 8), "float32")
    state = Tensor("state", (1, 8), "float32", is_variable=True)
    inner = Tensor("inner", (3,), "int8", quant=Quant.per_tensor(0.5))
    scalar = Tensor("scalar", (), "bool", np.array(True))
    dense = options_type("FullyConnectedOptions")()
    dense.fusedActivationFunction, dense.keepNumDims = 1, True
    broadcast = options_type("StablehloBroadcastInDimOptions")()
    broadcast.broadcastDimensions = [0, 1]
    ops = [
        Op("FULLY_CONNECTED", [x, w, b], [h], dense, 4),
        Op("STABLEHLO_BROADCAST_IN_DIM", [h, None, scalar], [y], broadcast, 3, "", None, [inner]),
        Op("CUSTOM", [y, state], [z], None, 2, "FlexErf", b"\x01\x00\x02"),
    ]
    other_in, other_out = Tensor("oi", (2,), "float32"), Tensor("oo", (2,), "float32")
    return Model(
        [
            Graph("main", ops, [x], [z]),
            Graph("other", [Op("TANH", [other_in], [other_out])], [other_in], [other_out]),
        ],
        [
            Signature("serving_default", {"x": x}, {"z": z}),
            Signature("second", {"a": other_in}, {"b": other_out}, 1),
        ],
        {"note": b"hello\0", "empty": b""},
        "a description",
    )


def same_tensor(a, b):
    assert (a.name, a.shape, a.dtype, a.is_variable, a.signature, a.has_rank) == (
        b.name,
        b.shape,
        b.dtype,
        b.is_variable,
        b.signature,
        b.has_rank,
    )
    assert (a.data is None) == (b.data is None)
    if a.data is not None:
        np.testing.assert_array_equal(a.data, b.data)
        assert a.data.dtype == b.data.dtype
    assert (a.quant is None) == (b.quant is None)
    if a.quant is not None:
        np.testing.assert_array_equal(a.quant.scale, b.quant.scale)
        np.testing.assert_array_equal(a.quant.zero_point, b.quant.zero_point)
        assert a.quant.axis == b.quant.axis


def test_every_field_survives():
    before = everything()
    after = Model.from_bytes(before.to_bytes())
    assert after.description == before.description
    assert after.metadata == before.metadata
    for g, f in zip(before.graphs, after.graphs, strict=True):
        assert g.name == f.name
        for t, u in zip(g.tensors(), f.tensors(), strict=True):
            same_tensor(t, u)
        index = {t: i for i, t in enumerate(g.tensors())} | {None: -1}
        found = {t: i for i, t in enumerate(f.tensors())} | {None: -1}
        for op, got in zip(g.ops, f.ops, strict=True):
            assert (op.name, op.version, op.custom_code, op.custom_options) == (
                got.name,
                got.version,
                got.custom_code,
                got.custom_options,
            )
            for ours, theirs in (
                (op.inputs, got.inputs),
                (op.outputs, got.outputs),
                (op.intermediates, got.intermediates),
            ):
                assert [index[t] for t in ours] == [found[t] for t in theirs]
            assert type(op.options) is type(got.options)
            if op.options is not None:
                assert {k: np.asarray(v).tolist() for k, v in vars(op.options).items()} == {
                    k: np.asarray(v).tolist() for k, v in vars(got.options).items()
                }
    for s, t in zip(before.signatures, after.signatures, strict=True):
        assert (s.key, s.graph) == (t.key, t.graph)
        assert {n: v.name for n, v in s.inputs.items()} == {n: v.name for n, v in t.inputs.items()}
        assert {n: v.name for n, v in s.outputs.items()} == {
            n: v.name for n, v in t.outputs.items()
        }
        assert all(v in list(after.graphs[t.graph].tensors()) for v in t.inputs.values())


def test_the_same_model_gives_the_same_bytes():
    content = everything().to_bytes()
    assert everything().to_bytes() == content
    assert Model.from_bytes(content).to_bytes() == content
    assert everything().copy().to_bytes() == content


@pytest.mark.parametrize("dtype", sorted(PACKED_BITS))
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 17])
def test_packed_constants_survive_and_are_packed(dtype, size):
    bits = PACKED_BITS[dtype]
    lo, hi = (0, 2**bits - 1) if dtype[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    values = np.resize(np.arange(lo, hi + 1), size).astype(numpy_dtype(dtype))
    model = constant(Tensor("w", (size,), dtype, values))
    content = model.to_bytes()
    got = Model.from_bytes(content).main.ops[0].input(1)
    np.testing.assert_array_equal(got.values(), values)
    flat = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    sizes = [0 if b.data is None else len(b.data) for b in flat.buffers]
    assert sizes[flat.subgraphs[0].tensors[1].buffer] == -(-size * bits // 8)


def constant(*tensors):
    x, y = Tensor("x", (1,), "float32"), Tensor("y", (1,), "float32")
    return Model([Graph("main", [Op("CUSTOM", [x, *tensors], [y], None, 1, "C")], [x], [y])])


def test_int4_puts_the_first_value_into_the_low_bits():
    content = constant(Tensor("w", (3,), "int4", np.array([1, -1, 7], np.int8))).to_bytes()
    flat = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    raw = flat.buffers[flat.subgraphs[0].tensors[1].buffer].data
    assert [int(v) for v in raw] == [0xF1, 0x07]


@pytest.mark.parametrize("sizes", [(1, 3, 5), (7, 16, 33), (128, 1, 2)])
def test_buffers_start_at_multiples_of_16_bytes(sizes):
    rng = np.random.default_rng(0)
    tensors = [
        Tensor(f"c{n}", (n,), "int32", rng.integers(0, 99, n).astype(np.int32)) for n in sizes
    ]
    content = constant(*tensors).to_bytes()
    for t in Model.from_bytes(content).main.ops[0].inputs[1:]:
        at = content.index(t.values().tobytes())
        assert at % 16 == 0, (t.name, at)


def test_equal_constants_share_a_buffer():
    values = np.arange(1000, dtype=np.int32)
    one = len(constant(Tensor("a", (1000,), "int32", values)).to_bytes())
    content = constant(
        Tensor("a", (1000,), "int32", values),
        Tensor("b", (10, 100), "int32", values.reshape(10, 100).copy()),
    ).to_bytes()
    assert len(content) - one < 400
    flat = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    _, a, b, _ = flat.subgraphs[0].tensors
    assert a.buffer == b.buffer


def test_an_empty_constant_survives():
    model = constant(Tensor("a", (0, 3), "float32", np.zeros((0, 3), np.float32)))
    got = Model.from_bytes(model.to_bytes()).main.ops[0].input(1)
    assert got.shape == (0, 3)


def test_constants_outside_the_flatbuffer_are_read():
    """Files beyond 2 GB keep their buffers after the flatbuffer, by offset and size."""
    values = np.arange(8, dtype=np.float32)
    content = constant(Tensor("a", (8,), "float32", values)).to_bytes()
    flat = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    index = flat.subgraphs[0].tensors[1].buffer

    def write(offset):
        import flatbuffers

        buffer = flat.buffers[index]
        buffer.data, buffer.offset, buffer.size = None, offset, values.nbytes
        builder = flatbuffers.Builder(1024)
        builder.Finish(flat.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    length = -(-len(write(1 << 20)) // 16) * 16
    outside = write(length).ljust(length, b"\0") + values.tobytes()
    got = Model.from_bytes(outside).main.ops[0].input(1)
    np.testing.assert_array_equal(got.values(), values)
    with pytest.raises(ModelError, match="truncated"):
        Model.from_bytes(outside[:-1])


def test_constants_view_the_files_memory():
    content = constant(Tensor("a", (1000,), "int32", np.arange(1000, dtype=np.int32))).to_bytes()
    values = Model.from_bytes(content).main.ops[0].input(1).values()
    assert np.shares_memory(values, np.frombuffer(content, np.uint8))


def test_a_written_model_runs():
    x, y = Tensor("x", (1, 3), "float32"), Tensor("y", (1, 3), "float32")
    two = Tensor("two", (1,), "float32", np.array([2], np.float32))
    model = Model(
        [Graph("main", [Op("MUL", [x, two], [y], options_type("MulOptions")())], [x], [y])]
    )
    for kernels in ("xnnpack", "builtin", "reference"):
        got = Runner(model.to_bytes(), kernels=kernels).run({"x": np.ones((1, 3), np.float32)})
        np.testing.assert_array_equal(got["y"], np.full((1, 3), 2))


# --- damaged input --------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"TFL3", bytes(64), b"\x89PNG\r\n\x1a\n" + bytes(64)])
def test_foreign_bytes_are_refused(data):
    with pytest.raises(ModelError, match=r"Cannot read m\.tflite: .*not a \.tflite file"):
        Model.from_bytes(data, where="m.tflite")


def test_every_truncation_and_many_flips_raise_nothing_but_model_errors():
    content = everything().to_bytes()
    refused = 0
    for end in range(0, len(content), 7):
        try:
            Model.from_bytes(content[:end])
        except ModelError:
            refused += 1
    assert refused > 100
    rng = random.Random(0)
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 3, 20])):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        try:
            Model.from_bytes(bytes(damaged))
        except ModelError:
            continue
        except MemoryError:
            continue


def edited(edit):
    flat = schema.ModelT.InitFromObj(schema.Model.GetRootAs(everything().to_bytes(), 0))
    edit(flat)
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(flat.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def wrong_tensor(flat):
    flat.subgraphs[0].operators[0].inputs = [0, 99, 2]


def wrong_code(flat):
    flat.subgraphs[0].operators[0].opcodeIndex = 44


def wrong_shape(flat):
    flat.subgraphs[0].tensors[1].shape = [8, 7]


def wrong_buffer(flat):
    flat.subgraphs[0].tensors[1].buffer = 500


def wrong_scales(flat):
    flat.subgraphs[0].tensors[1].quantization.zeroPoint = [0, 0, 0]


def wrong_signature(flat):
    flat.signatureDefs[0].subgraphIndex = 7


def no_outputs(flat):
    flat.subgraphs[0].outputs = []


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (wrong_tensor, "tensor 99 of"),
        (wrong_code, "operator code 44"),
        (wrong_shape, r"'w' of shape \[8, 7\] needs 56 bytes but holds 48"),
        (wrong_buffer, "buffer 500 of"),
        (wrong_scales, "'w' has scales and zero points that do not match"),
        (wrong_signature, "'serving_default' names no graph"),
        (no_outputs, "no graph with outputs"),
    ],
)
def test_what_is_wrong_is_said(edit, message):
    with pytest.raises(ModelError, match=message):
        Model.from_bytes(edited(edit))


def test_one_zero_point_counts_for_all_channels():
    def one(flat):
        flat.subgraphs[0].tensors[1].quantization.zeroPoint = [0]

    w = Model.from_bytes(edited(one)).main.ops[0].input(1)
    np.testing.assert_array_equal(w.quant.zero_point, np.zeros(8))


def test_a_negative_dimension_becomes_one():
    def dynamic(flat):
        flat.subgraphs[0].tensors[0].shape = [-1, 6]

    x = Model.from_bytes(edited(dynamic)).main.inputs[0]
    assert x.shape == (1, 6)
    assert x.signature == (-1, 6)


# --- rewiring -------------------------------------------------------------------------------------


def chain():
    t = [Tensor(f"t{i}", (1,), "float32") for i in range(4)]
    ops = [Op("TANH", [t[i]], [t[i + 1]]) for i in range(3)]
    return t, Graph("main", ops, [t[0]], [t[3]])


def test_replace_uses_rewires_readers_and_outputs():
    t, graph = chain()
    graph.replace_uses(t[1], t[0])
    graph.replace_uses(t[3], t[2])
    assert graph.ops[1].inputs == [t[0]]
    assert graph.outputs == [t[2]]
    graph.prune()
    assert [op.outputs[0] for op in graph.ops] == [t[2]]


def test_producers_and_consumers():
    t, graph = chain()
    graph.ops.append(Op("ADD", [t[1], t[1]], [Tensor("s", (1,), "float32")]))
    assert graph.producers()[t[2]] is graph.ops[1]
    assert graph.consumers()[t[1]] == [(graph.ops[1], 0), (graph.ops[3], 0), (graph.ops[3], 1)]
    assert t[3] not in graph.consumers()


def test_prune_keeps_what_has_effects():
    t, graph = chain()
    handle = Tensor("v", (1,), "resource")
    graph.ops.append(Op("ASSIGN_VARIABLE", [handle, t[1]], []))
    graph.ops.append(Op("TANH", [t[0]], [Tensor("unused", (1,), "float32")]))
    graph.prune()
    assert [op.name for op in graph.ops] == ["TANH", "TANH", "TANH", "ASSIGN_VARIABLE"]


def test_a_copy_can_be_rewired_without_touching_the_original():
    model = everything()
    before = model.to_bytes()
    copy = model.copy()
    copy.main.ops[0].options.fusedActivationFunction = 0
    copy.main.ops.pop()
    copy.main.inputs[0].name = "renamed"
    assert model.to_bytes() == before


def test_wrong_questions_are_model_errors():
    x = Tensor("x", (1,), "float32")
    with pytest.raises(ModelError, match="'x' is not a constant"):
        x.values()
    with pytest.raises(ModelError, match="TANH at 'x' lacks its input 1"):
        Op("TANH", [x], [x]).input(1)
    with pytest.raises(ModelError, match="string hold no numbers"):
        numpy_dtype("string")
    model = everything()
    model.signatures[0].outputs["z"] = Tensor("stray", (1,), "float32")
    with pytest.raises(ModelError, match="names a tensor not in its graph"):
        model.to_bytes()


def test_op_codes_are_those_of_the_schema():
    assert OP_CODES["CONV_2D"] == 3
    assert OP_NAMES[9] == "FULLY_CONNECTED"
    # Codes above 127 do not fit the deprecated field and must be read from the new one.
    x, y = Tensor("x", (1,), "float32"), Tensor("y", (1,), "float32")
    model = Model([Graph("main", [Op("SIGN", [x], [y])], [x], [y])])
    assert OP_CODES["SIGN"] > 127
    assert Model.from_bytes(model.to_bytes()).main.ops[0].name == "SIGN"
