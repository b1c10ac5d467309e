"""Ranges between trained ones."""

from __future__ import annotations

import numpy as np
from small_models import Net

from tfq.graph.model import Graph
from tfq.graph.numerics import activation_grid
from tfq.rewrite.trained_between import grids_between


class TestGridsBetween:
    def test_an_affine_map_of_channels(self) -> None:
        net = Net()
        x = net.input(1, 4, name="x")
        y = net.op("MUL", x, net.const([1.0, -2.0, 0.5, 3.0]), out="product")
        z = net.op("ADD", y, net.const([1.0, 1.0, 5.0, 0.0]), out="sum")
        graph = Graph("main", net.ops, net.inputs, [z])
        grid = activation_grid(-1.0, 2.0, "int8")
        found = grids_between(graph, {"x": grid, "sum": activation_grid(-5.0, 7.0, "int8")})
        lo, hi = grid.range()
        products = [c * e for c in (1.0, -2.0, 0.5, 3.0) for e in (lo, hi)]
        assert found == {"product": activation_grid(min(products), max(products), "int8")}

    def test_a_sum_of_two_trained_tensors(self) -> None:
        net = Net()
        x, y = net.input(1, 4, name="x"), net.input(1, 4, name="y")
        total = net.op("SUB", x, y, out="total")
        z = net.op("MUL", total, 0.5, out="half")
        graph = Graph("main", net.ops, net.inputs, [z])
        a, b = activation_grid(-1.0, 2.0, "int8"), activation_grid(0.0, 4.0, "int8")
        found = grids_between(graph, {"x": a, "y": b})
        expected = activation_grid(a.range()[0] - b.range()[1], a.range()[1] - b.range()[0], "int8")
        assert found == {"total": expected}

    def test_the_two_ops_of_a_rescaling_of_scalars(self) -> None:
        net = Net()
        x = net.input(1, 4, name="x")
        y = net.op("ADD", net.op("MUL", x, 1 / 127.5, out="product"), -1.0, out="rescaled")
        grid = activation_grid(0.0, 255.0, "int8")
        ends = {"x": grid, "rescaled": activation_grid(-1.0, 1.0, "int8")}
        found = grids_between(Graph("main", net.ops, net.inputs, [net.op("RELU", y)]), ends)
        high = grid.range()[1] * float(np.float32(1 / 127.5))
        assert found == {"product": activation_grid(0.0, high, "int8")}
        # Without the second one it may be part of a table.
        del ends["rescaled"]
        assert grids_between(Graph("main", net.ops, net.inputs, [y]), ends) == {}

    def test_what_is_inside_a_table_or_read_twice_is_left(self) -> None:
        net = Net()
        x = net.input(1, 4, name="x")
        scalar = net.op("MUL", x, 2.0, out="scalar")
        twice = net.op("MUL", x, net.const(np.ones(4, np.float32)), out="twice")
        outs = [net.op("RELU", t) for t in (scalar, twice, twice)]
        graph = Graph("main", net.ops, net.inputs, outs)
        assert grids_between(graph, {"x": activation_grid(-1.0, 1.0, "int8")}) == {}
