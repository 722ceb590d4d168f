"""The net's graph in TensorBoard. A net that cannot be traced is trained all the same; that is told, and kept with the run."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from lamella.train.journal import Journal
from lamella.train.learner import Learner


def draw_graph(learner: Learner, journal: Journal) -> None:
    """Trace the net on one sample and write its graph."""
    try:
        with warnings.catch_warnings(), _uncompiled(learner.net):
            warnings.simplefilter("ignore")  # sizes that the trace takes for constants are ones
            inputs = learner.graph_inputs()
            if not inputs:
                raise ValueError("the task calls parts of the net only")
            with learner.evaluating():
                journal.graph(learner.net, inputs)
    except Exception as error:
        reason = f"no graph of the net in TensorBoard: {str(error).strip().partition(chr(10))[0][:150]}"
        journal.warn(0, reason)
        print(reason, file=sys.stderr)


@contextmanager
def _uncompiled(net: nn.Module) -> Iterator[None]:
    """The net without what ``torch.compile`` made of its modules, which cannot be traced."""
    compiled = {module: module._compiled_call_impl for module in net.modules()}
    for module in compiled:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, call in compiled.items():
            module._compiled_call_impl = call
