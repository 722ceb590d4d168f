"""Writing down what a run does: metrics.csv, TensorBoard events, pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from types import TracebackType
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from lamella.core.files import replacing
from lamella.runs import RunFolder


class Journal:
    """The record of ``run`` from ``start`` on; what an earlier, killed attempt wrote after that step is dropped."""

    def __init__(self, run: RunFolder, start: int) -> None:
        self.run = run
        run.metrics.keep_until(start)
        kept = [warning for warning in run.provenance().get("warnings", []) if warning["step"] <= start]
        run.record(warnings=kept)
        self._events = SummaryWriter(str(run.path / "tensorboard"), purge_step=start + 1)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.close()

    def write(self, step: int, row: Mapping[str, float | str]) -> None:
        """Add a row of metrics."""
        self.run.metrics.append(step, row)
        for name, value in row.items():
            if isinstance(value, float):
                self._events.add_scalar(name, value, step)

    def picture(self, step: int, name: str, encoded: bytes) -> None:
        """Keep an encoded PNG or GIF in ``panels/`` and show it in TensorBoard."""
        with replacing(self.run.path / "panels" / f"step_{step:07d}" / name) as beside:
            beside.write_bytes(encoded)
        image = Summary.Image(encoded_image_string=encoded)
        summary = Summary(value=[Summary.Value(tag=f"panels/{name}", image=image)])
        self._events._get_file_writer().add_summary(summary, step)

    def graph(self, net: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Show the net's graph in TensorBoard, as traced with ``inputs``."""
        with redirect_stdout(io.StringIO()):  # where PyTorch repeats the exception
            self._events.add_graph(net, inputs)

    def warn(self, step: int, message: str) -> None:
        """Keep a warning in the run's record."""
        warnings = self.run.provenance().get("warnings", [])
        self.run.record(warnings=[*warnings, {"step": step, "message": message}])
