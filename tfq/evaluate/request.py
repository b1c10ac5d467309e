"""Which outputs are measured, by which task and with which metrics: what was asked for, and what
the first block shows.

Labels of several outputs are a structured array with a field for each (`tfq.data.fit`), and every
one is measured. Other labels are of `output`, or of all outputs together (detections).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfq.data.fit import bind_labels
from tfq.errors import DataError, UsageError, nearest
from tfq.evaluate.metrics import (
    Labels,
    Metric,
    Task,
    get_task,
    guess_task,
    load_metric,
    options_of,
    tasks,
)
from tfq.evaluate.scorer import Outputs, Scorer
from tfq.graph.interface import ArgSpec

Asked = str | Callable[..., Any]
"""A metric: a name, "package.module:callable", or a function."""

Metrics = str | Sequence[Asked] | Mapping[str, Asked | Sequence[Asked]] | None


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked for, before anything is known of models and data.

    Attributes:
      tasks: by output; under None of all others.
      metrics: the same; a name under None may still begin with an output's ("scores:top1").
      output: the only output that is measured, or None.
      facts: options of tasks (`get_task`).
    """

    tasks: Mapping[str | None, str]
    metrics: Mapping[str | None, tuple[Asked, ...]]
    output: str | None
    facts: Mapping[str, Any]


def make_request(
    task: str | Mapping[str, str] | None,
    metrics: Metrics,
    output: str | None,
    facts: Mapping[str, Any],
) -> Request:
    """What was asked for, checked as far as it can be before a model is loaded.

    Args:
      task: a name, or "output:name,output:name", or these as a dict.
      metrics: names (or functions), in one string or several; "output:name" is of one output; or a
        dict of them by output.
      output, facts: as in `Request`.

    Raises:
      UsageError: there is no such task, or no such metric of it or of any; an option is of no task.
    """
    chosen: dict[str | None, str] = {}
    if isinstance(task, str):
        for entry in task.split(","):
            name, _, kind = entry.strip().rpartition(":")
            chosen[name or None] = kind
    elif isinstance(task, Mapping):
        chosen.update(task)
    elif task is not None:
        raise UsageError(f"task is a name, or names by output. Received: {task!r}.")
    for kind in chosen.values():
        if not isinstance(kind, str):
            raise UsageError(f"A task is a name: {', '.join(tasks())}. Received: {kind!r}.")
    asked: dict[str | None, tuple[Asked, ...]] = {}
    if isinstance(metrics, Mapping):
        asked.update({name: _listed(given) for name, given in metrics.items()})
    elif metrics is not None:
        asked[None] = _listed(metrics)
    found = Request(chosen, asked, output, {k: v for k, v in facts.items() if v is not None})
    _check(found)
    return found


def _listed(given: Asked | Sequence[Asked]) -> tuple[Asked, ...]:
    if isinstance(given, str):
        given = [name.strip() for name in given.split(",")]
    if callable(given):
        return (given,)
    if not isinstance(given, Iterable) or not all(isinstance(m, str) or callable(m) for m in given):
        raise UsageError(
            "metrics are names or functions, one or a list of them, or these by output. Received: "
            f"{given!r}."
        )
    return tuple(dict.fromkeys(given))


def _check(asked: Request) -> None:
    every = {t: get_task(t) for t in tasks()}
    for task in asked.tasks.values():
        get_task(task)
    if set(asked.tasks) == {None}:  # Else some other output may be of the option's task.
        get_task(asked.tasks[None], **asked.facts)
    for output, names in asked.metrics.items():
        kind = asked.tasks.get(output) or asked.tasks.get(None)
        for name in names:
            plain = isinstance(name, str) and ":" not in name
            if not plain:
                tail = "" if callable(name) else name.rpartition(":")[2]
                # Of an output, perhaps, which is known only when the models are.
                if not any(t.has(tail) for t in every.values()):
                    load_metric(name if callable(name) else ":".join(name.split(":")[-2:]))
            elif kind is not None and (output is not None or len(asked.tasks) == 1):
                every[kind].require([str(name)])
            elif not any(t.has(str(name)) for t in every.values()):
                listed = "; ".join(f"{t}: {', '.join(k.all_metrics)}" for t, k in every.items())
                hint = " Did you mean 'top1'?" if str(name).lower().startswith("acc") else ""
                raise UsageError(
                    f"Unknown metric {name!r}. There are, by task, {listed}; and one's own as "
                    f"package.module:callable.{hint}"
                )


def make_scorers(
    asked: Request,
    outputs: Outputs,
    specs: Sequence[ArgSpec],
    labels: Labels,
    where: str,
) -> tuple[tuple[Scorer, ...], list[str]]:
    """What is measured, learnt from the first block.

    Args:
      asked: for.
      outputs: the reference's for the block's first samples.
      specs: the outputs' names.
      labels: of the same samples, or None.
      where: names the data in messages.

    Returns:
      The scorers, and what to warn of.

    Raises:
      UsageError: a choice fits no output or task, or has to be made.
      DataError: labels are of no output, or missing.
    """
    asked = _by_output(asked, [s.name for s in specs])
    named = [name for name in (*asked.tasks, *asked.metrics) if name is not None]
    names = () if labels is None else labels[0].dtype.names or ()
    fields = bind_labels(names, specs, "the models")
    places: list[tuple[str | None, str | None]] = [(asked.output, None)]
    if fields:
        places = [(o, f) for o, f in fields.items() if asked.output in (None, o)]
        if not places:
            raise DataError(
                f"{where} has no labels for the output {asked.output!r}, only for "
                f"{', '.join(map(repr, fields))}. Choose one of them."
            )
    elif asked.output is None and named and (labels is None or len(set(named)) == 1):
        places = [(name, None) for name in dict.fromkeys(named)]
    measured = [output for output, _ in places]
    for name in named:
        if name not in measured:
            raise UsageError(
                f"A task or a metric is chosen for the output {name!r}, which is not measured: "
                + (f"there are labels for {', '.join(map(repr, measured))}." if fields else "")
                + ("" if fields else f"{where} does not say whose its labels are (y/OUTPUT).")
            )
    warnings: list[str] = []
    if labels is None and not asked.tasks:
        warnings.append("The data has no labels: outputs are compared with the reference's alone.")
    found = []
    taken: set[str] = set()
    for output, field in places:
        scorer = Scorer(output, field=field)
        mine, own = scorer.outputs(outputs), scorer.labels(labels)
        with scorer.naming():
            kind = asked.tasks.get(output) or asked.tasks.get(None) or _guessed(mine, own)
            facts = {k: v for k, v in asked.facts.items() if kind and k in options_of(kind)}
            taken |= set(facts)
            task = None if kind is None else get_task(kind, **facts).fit(mine, own)
            names = asked.metrics.get(output, asked.metrics.get(None))
            metrics = _metrics(task, names, own, where)
        found.append(dataclasses.replace(scorer, task=task, metrics=metrics))
    left = {k: v for k, v in asked.facts.items() if k not in taken}
    if left and found[0].task is None:
        raise UsageError(
            f"{', '.join(left)} say something of a task, and neither labels nor outputs say which "
            f"it is. Choose one: {', '.join(tasks())}."
        )
    if left and found[0].task is not None:
        get_task(found[0].task.name, **left)  # Its error says whose they are.
    return tuple(found), warnings


def _by_output(asked: Request, outputs: Sequence[str]) -> Request:
    """With "output:metric" under the output's name, and all names those of outputs."""
    metrics: dict[str | None, tuple[Asked, ...]] = {}
    for key, names in asked.metrics.items():
        for name in names:
            own = key
            if own is None and isinstance(name, str):
                found = [o for o in outputs if name.startswith(f"{o}:")]
                own = max(found, key=len) if found else None
                name = name if own is None else name.removeprefix(f"{own}:")
            metrics[own] = (*metrics.get(own, ()), name)
    for output in (asked.output, *asked.tasks, *metrics):
        if output is not None and output not in outputs:
            raise UsageError(
                f"The models have no output {output!r}. Choose among: {', '.join(outputs)}."
                f"{nearest(output, outputs)}"
            )
    return dataclasses.replace(asked, metrics=metrics)


def _guessed(outputs: Outputs, labels: Labels) -> str | None:
    """The task that outputs and labels speak for; None where there are no labels, and no doubt."""
    if labels is None:
        values = next(iter(outputs.values()))
        plain = len(outputs) == 1 and values.ndim == 2 and values.shape[1] > 1
        sums = np.abs(values.sum(axis=-1) - 1).max() if plain else 1.0
        # Without labels, probabilities alone are sure to be those of classes.
        return "classification" if plain and sums <= 0.02 and values.min() >= 0 else None
    array = labels if isinstance(labels, np.ndarray) else np.asarray(labels[0])[None]
    return guess_task(
        {n: v.shape[1:] for n, v in outputs.items()},
        {n: v.dtype for n, v in outputs.items()},
        array.shape[1:],
        array.dtype,
        array,
    )


def _metrics(
    task: Task | None, names: Sequence[Asked] | None, labels: Labels, where: str
) -> tuple[Metric, ...]:
    """What is measured: the task's metrics by name, and functions of the user's own."""
    if names is None:
        found = () if task is None else task.metrics()
        return tuple(m for m in found if labels is not None or not m.needs_labels)
    asked = []
    for name in names:
        if callable(name) or ":" in name:
            asked.append(load_metric(name))
        elif task is not None:
            asked.append(task.metric(name))
        else:
            raise UsageError(
                f"The metric {name!r} needs a task, and neither labels nor outputs say which. "
                f"Choose one: {', '.join(tasks())}."
            )
    needy = [m.name for m in asked if m.needs_labels]
    if labels is None and needy:
        raise DataError(
            f"No labels in {where}, which {', '.join(needy)} cannot do without. Give labels ('y' "
            "in a .npz, a folder for each class, a CSV)."
        )
    return tuple(asked)
