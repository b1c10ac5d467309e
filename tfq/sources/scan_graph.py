"""Graphs of model files, looked at before TensorFlow loads them: nothing in a file may reach out.

TensorFlow runs a part of a SavedModel while it loads it (initializers, the main op), and tfq runs
the rest when it compares. So every node of every graph and function is looked at, whether a
signature needs it or not. What opens files is allowed in the two places where a SavedModel needs
it: its saver, which is told by what it depends on and what depends on it, and tables that are
filled from one of its own assets.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tfq.errors import ModelError
from tfq.sources import allowed_ops
from tfq.sources.causes import places

_INIT_SIGNATURE = "__saved_model_init_op"


def refuse_saved_model(folder: str, shown: str) -> None:
    """Raises ModelError if loading or running the SavedModel could do more than compute.

    Raises:
      OSError: TensorFlow cannot read it either.
      ModelError: the message names the ops, and where they are.
    """
    from tensorflow.python.saved_model import loader_impl

    found: list[str] = []
    graphs = loader_impl.parse_saved_model(folder).meta_graphs
    for graph in graphs:
        found += _foreign_assets(graph, Path(folder))
        # So the loader tells TensorFlow 2 from the first.
        objects = len(graphs) == 1 and graph.HasField("object_graph_def")
        found += _MetaGraph(graph, objects).findings()
    _refuse(found, f"The SavedModel {shown}")


def refuse_graph(graph: Any, shown: str) -> None:
    """Raises ModelError if running the GraphDef could do more than compute."""
    nodes = [(n, "") for n in graph.node]
    nodes += [(n, f.signature.name) for f in graph.library.function for n in f.node_def]
    found = [
        _said(node, where)
        for node, where in nodes
        if allowed_ops.refused(node) or node.op in allowed_ops.FROM_TEXT_FILE
    ]
    _refuse(found, shown)


def _refuse(found: list[str], shown: str) -> None:
    if found:
        raise ModelError(
            f"{shown} holds what reaches outside of the model, to files, other programs or Python: "
            f"{places(found)}. Nothing of it was run. Export the model without it, or, if you "
            "trust the file, say --allow_code."
        )


def _said(node: Any, function: str) -> str:
    inside = f" of the function {function!r}" if function else ""
    return f"{node.op} (node {node.name!r}{inside})"


def _foreign_assets(graph: Any, folder: Path) -> Iterator[str]:
    """Assets that are not in the folder of assets, by their name or by a symbolic link.

    `cache` hashes what is in that folder, so one elsewhere could change and nobody would see it.
    """
    home = os.path.join(os.path.realpath(folder), "assets")
    for asset in _assets(graph):
        name = os.fsdecode(asset.filename)
        if not os.path.realpath(folder / "assets" / name).startswith(home + os.sep):
            yield f"the asset {name!r}, which is a file outside of its assets"


def _assets(graph: Any) -> list[Any]:
    from tensorflow.core.protobuf import meta_graph_pb2

    found = list(graph.asset_file_def)
    # Where the first TensorFlow keeps them.
    for packed in graph.collection_def["saved_model_assets"].any_list.value:
        asset = meta_graph_pb2.AssetFileDef()
        if packed.Unpack(asset):
            found.append(asset)
    return found


class _MetaGraph:
    """Who calls, feeds and names what in a MetaGraph.

    A place is (function, node), the function "" being the graph itself.

    Args:
      graph: the MetaGraphDef.
      objects: whether it is loaded as TensorFlow 2 does it: objects call functions, and nothing
        runs the graph itself. Else the loader runs the initializers and the restoring part of the
        saver in the graph.
    """

    def __init__(self, graph: Any, objects: bool):
        self.graph = graph
        self.objects = objects
        self.functions = {f.signature.name: f for f in graph.graph_def.library.function}
        self.nodes: dict[tuple[str, str], Any] = {("", n.name): n for n in graph.graph_def.node}
        for name, function in self.functions.items():
            self.nodes |= {(name, n.name): n for n in function.node_def}
        self.calls: dict[str, list[tuple[str, Any]]] = {}
        for (where, _), node in self.nodes.items():
            for name in set(_functions_of(node)) & set(self.functions):
                self.calls.setdefault(name, []).append((where, node))
        self.readers: dict[str, list[Any]] = {}
        for node in graph.graph_def.node:
            for name in node.input:
                self.readers.setdefault(_node_name(name), []).append(node)
        self.open = self._open_functions()
        self.filename = _node_name(graph.saver_def.filename_tensor_name)
        self.restore_op = _node_name(graph.saver_def.restore_op_name)
        self.asset_nodes = {_node_name(a.tensor_info.name) for a in _assets(graph)}

    def _open_functions(self) -> set[str]:
        """Functions that run without a node that calls them: those of the objects, and those that
        the runtime may put in the place of another."""
        objects = self.graph.object_graph_def
        found = set(objects.concrete_functions)
        for item in objects.nodes:
            found |= set(item.function.concrete_functions)
            found |= {item.bare_concrete_function.concrete_function_name} - {""}
        return found | {n for n, f in self.functions.items() if "api_implements" in f.attr}

    def findings(self) -> list[str]:
        return [_said(n, where) for (where, _), n in self.nodes.items() if self._bad(where, n)]

    def _bad(self, where: str, node: Any) -> bool:
        if node.op in allowed_ops.FROM_TEXT_FILE:
            return not (self._reads_asset(where, node) and self._only_initializes(where, node))
        if node.op in allowed_ops.SAVE:
            return not self._only_saves(where, node)
        if node.op in allowed_ops.RESTORE:
            restoring = self._reads_variables(where, node)
            return not self._only_saves(where, node, restoring=restoring)
        return allowed_ops.refused(node)

    # --- Forward: what runs when a node runs -----------------------------------------------------

    def _users(self, where: str, node: Any) -> tuple[bool, set[str]]:
        """Whether an open function runs the node, and the nodes of the graph that may."""
        nodes: list[Any] = [] if where else [node]
        functions, seen = [where] if where else [], set()
        while functions:
            name = functions.pop()
            if name not in seen:
                seen.add(name)
                for caller, call in self.calls.get(name, []):
                    functions += [caller] if caller else []
                    nodes += [] if caller else [call]
        names: set[str] = set()
        while nodes:
            user = nodes.pop()
            if user.name not in names:
                names.add(user.name)
                nodes += self.readers.get(user.name, [])
        return bool(seen & self.open), names

    def _only_saves(self, where: str, node: Any, *, restoring: bool = False) -> bool:
        """Whether a saver alone names what runs the node. Nobody runs a saver, but for the
        restoring part of one, which the loader runs on the variables' file."""
        is_open, users = self._users(where, node)
        if self.objects:
            return not is_open
        if is_open or not users or (not restoring and self.restore_op in users):
            return False
        lists = (c for key, c in self.graph.collection_def.items() if key != "savers")
        named = {_node_name(n) for c in lists for n in c.node_list.value}
        return not users & (named | self._outputs()) and not self._by_variables(users)

    def _only_initializes(self, where: str, node: Any) -> bool:
        """Whether nodes that run the node are run with the assets' names fed, as initializers
        are. What functions are fed with, has been followed to the asset itself."""
        _, users = self._users(where, node)
        if self.objects:
            return True
        if self.restore_op in users or self._by_variables(users):
            return False
        return not users & self._outputs(skipped=_INIT_SIGNATURE)

    def _outputs(self, skipped: str = "") -> set[str]:
        """Nodes that signatures return."""
        found = set()
        for key, signature in self.graph.signature_def.items():
            for info in signature.outputs.values() if key != skipped else ():
                sparse = info.coo_sparse
                tensors = [info.name, sparse.values_tensor_name, sparse.indices_tensor_name]
                tensors += [sparse.dense_shape_tensor_name]
                tensors += [part.name for part in info.composite_tensor.components]
                found |= {_node_name(t) for t in tensors}
        return found - {""}

    def _by_variables(self, names: set[str]) -> bool:
        """Whether a node is among what the first TensorFlow keeps of its variables, serialized:
        initial values are computed while loading."""
        packed = [
            value
            for key, c in self.graph.collection_def.items()
            if key != "savers"
            for value in c.bytes_list.value
        ]
        return any(name.encode() in value for name in names for value in packed)

    # --- Backward: where a name of a file comes from ---------------------------------------------

    def _reads_asset(self, where: str, node: Any) -> bool:
        if self.objects and not where:
            return True
        sources = self._sources(where, _inputs(node)[1:2], set())
        return bool(sources) and all(
            kind == "asset" or (kind == "node" and name in self.asset_nodes)
            for kind, name in sources
        )

    def _reads_variables(self, where: str, node: Any) -> bool:
        return self._sources(where, _inputs(node)[:1], set()) == {("node", self.filename)}

    def _sources(
        self, where: str, inputs: Iterable[str], seen: set[tuple[str, str]]
    ) -> set[tuple[str, str]]:
        """Where the tensors come from: ("node", name in the graph), ("asset", ""), or ("", "")
        for anything else."""
        found: set[tuple[str, str]] = set()
        for tensor in inputs:
            name = _node_name(tensor)
            if (where, name) in seen:
                continue
            seen.add((where, name))
            node = self.nodes.get((where, name))
            if node is not None and node.op == "Identity" and len(_inputs(node)) == 1:
                found |= self._sources(where, _inputs(node), seen)
            elif not where:
                found.add(("node", name))
            elif node is not None:
                found.add(("", ""))
            else:
                found |= self._argument(where, name, seen)
        return found

    def _argument(
        self, function: str, name: str, seen: set[tuple[str, str]]
    ) -> set[tuple[str, str]]:
        arguments = [a.name for a in self.functions[function].signature.input_arg]
        if name not in arguments:
            return {("", "")}
        index = arguments.index(name)
        found: set[tuple[str, str]] = set()
        if function in self.open:
            objects = self.graph.object_graph_def
            bound = list(objects.concrete_functions[function].bound_inputs)
            place = index - (len(arguments) - len(bound))  # What is bound comes last.
            item = bound[place] if 0 <= place < len(bound) else -1
            known = 0 <= item < len(objects.nodes)
            asset = known and objects.nodes[item].WhichOneof("kind") == "asset"
            found.add(("asset", "") if asset else ("", ""))
        for where, call in self.calls.get(function, []):
            if self.objects and not where:
                continue
            if call.op in ("PartitionedCall", "StatefulPartitionedCall"):
                found |= self._sources(where, _inputs(call)[index : index + 1], seen)
            else:
                found.add(("", ""))
        return found


def _functions_of(node: Any) -> Iterator[str]:
    yield node.op  # A function may be called by its own name.
    for value in node.attr.values():
        yield value.func.name
        for function in value.list.func:
            yield function.name


def _inputs(node: Any) -> list[str]:
    return [name for name in node.input if not name.startswith("^")]


def _node_name(tensor: str) -> str:
    return tensor.lstrip("^").split(":")[0]
