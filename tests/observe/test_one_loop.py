"""There is one loop over samples: who else runs a model says here what for."""

import ast
from pathlib import Path

import tfq

RUN_MODELS = {
    "evaluate.batching": "a batch of labelled samples, handed in by the data set's own loop",
    "evaluate.layers.rebatched": "one sample, alone and in a batch",
    "graph.check": "zeros: whether a model runs at all",
    "keras.pruning.report": "times one input",
    "keras.simulation.delegation": "nothing: asks who takes the ops over",
    "keras.simulation.tables": "every value of a lookup table",
    "observe.side": "the loop itself",
    "quantize.table": "every value of a lookup table",
    "rewrite.fold_constants": "constants",
    "sources.compare": "random inputs, beside TensorFlow",
    "sources.static_shapes": "zeros, for shapes; one batch against its rows",
    "sources.trained_grids": "constants",
    "targets.cpu.worker": "times one input, in a process of its own",
    "unroll.constants": "constants",
    "unroll.loops": "nothing: asks for shapes",
    "verify.apart": "one sample in another process",
    "verify.same_model": "two samples by position, since a source's tensors may lack names",
    "walk.stretches": "a few ops at a time, on all samples",
}


def imports_runner(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = {a.name for a in node.names}
            if node.module == "tfq.runtime" and "Runner" in names:
                return True
            if node.module == "tfq" and "runtime" in names:
                return True
            if node.module and node.module.startswith("ai_edge_litert.interpreter"):
                return True
        elif isinstance(node, ast.Import) and any(
            a.name in ("tfq.runtime", "ai_edge_litert.interpreter") for a in node.names
        ):
            return True
    return False


def test_samples_are_run_in_one_loop():
    root = Path(tfq.__file__).parent
    found = {
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in root.rglob("*.py")
        if imports_runner(path)
    } - {"runtime"}
    new, gone = sorted(found - RUN_MODELS.keys()), sorted(RUN_MODELS.keys() - found)
    assert not new, f"{new} run models: samples go through tfq.observe; else say here what for."
    assert not gone, f"{gone} no longer run models: take them off this list."
