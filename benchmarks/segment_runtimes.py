"""What layouts, precisions and other runtimes give: the default net of the segment task on one image, on one thread, in one run.

    pip install onnx onnxscript onnxruntime openvino
    python benchmarks/segment_runtimes.py

Times are CPU seconds of the process. ``difference`` is the largest from the plain float32 maps, which lie between 0 and 1.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lamella.core.memory import keep_freed_memory
from lamella.nets.blocks import fuse, lower
from lamella.tasks.segment.config import default_net

Run = Callable[[], NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    net = settled(default_net().build(1, 3))
    image = torch.rand(1, 1, args.side, args.side)
    plain = eager(net, image, torch.float32, torch.contiguous_format)
    rows: dict[str, Run] = {
        "PyTorch, float32": plain,
        "  channels last": eager(net, image, torch.float32, torch.channels_last),
        "  channels last, fused norms": eager(fuse(copy.deepcopy(net)), image, torch.float32, torch.channels_last),
        "  the same in bfloat16 (lamella)": eager(
            lower(fuse(copy.deepcopy(net)), torch.bfloat16), image, torch.bfloat16, torch.channels_last
        ),
        **exported(net, image),
    }
    expected = plain()
    print(f"{'runtime':34} {'Mpx/CPU s':>10} {'of plain':>9} {'difference':>11}")
    first = None
    for name, run in rows.items():
        speed = args.side**2 / 1e6 / seconds(run, args.repeats)
        first = first or speed
        worst = float(np.abs(run() - expected).max())
        print(f"{name:34} {speed:10.2f} {speed / first:8.2f}x {worst:11.1e}", flush=True)


def settled(net: nn.Module) -> nn.Module:
    """The net with the statistics of a few batches, as after training."""
    with torch.no_grad():
        for _ in range(5):
            net.train()(torch.rand(4, 1, 128, 128))
    return net.eval()


def eager(net: nn.Module, image: Tensor, dtype: torch.dtype, layout: torch.memory_format) -> Run:
    """PyTorch as it is."""
    net = copy.deepcopy(net).to(memory_format=layout)  # type: ignore[call-overload]
    shown = image.to(dtype).contiguous(memory_format=layout)

    def run() -> NDArray[np.float32]:
        with torch.inference_mode():
            return torch.sigmoid(net(shown).float()).numpy()

    return run


def exported(net: nn.Module, image: Tensor) -> dict[str, Run]:
    """ONNX Runtime, and OpenVINO in both precisions."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        torch.onnx.export(nn.Sequential(net, nn.Sigmoid()), (image,), path, dynamo=True, external_data=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options)
        runs = {"ONNX Runtime, float32": onnx_run(session, image.numpy())}
        core = openvino.Core()
        for precision in ("f32", "bf16"):
            settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision}
            model = core.compile_model(core.read_model(path), "CPU", settings)
            runs[f"OpenVINO, {precision}"] = openvino_run(model, image.numpy())
    return runs


def onnx_run(session: Any, image: NDArray[np.float32]) -> Run:
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: image})[0]


def openvino_run(model: Any, image: NDArray[np.float32]) -> Run:
    return lambda: np.array(model(image)[0])


def seconds(run: Run, times: int) -> float:
    """CPU seconds of one call, after one that does not count."""
    run()
    start = time.process_time()
    for _ in range(times):
        run()
    return (time.process_time() - start) / times


if __name__ == "__main__":
    main()
