"""How far a net looks: which input voxels can change an output voxel, worked out along one axis.

A span is the first and last cell (both included) of a map; each function gives the span of the layer's input that a span of
its output depends on. A map's cells may be larger than voxels: after a pooling by 2, cell 3 covers cells 6 and 7.

>>> pooled(convolved((3, 3), 3), 2)
(4, 9)
"""

from __future__ import annotations

from collections.abc import Callable

Span = tuple[int, int]


def convolved(span: Span, kernel: int) -> Span:
    """Through a convolution of odd kernel."""
    return span[0] - kernel // 2, span[1] + kernel // 2


def pooled(span: Span, factor: int) -> Span:
    """Through a pooling, or a convolution whose kernel is its stride."""
    return span[0] * factor, span[1] * factor + factor - 1


def repeated(span: Span, factor: int) -> Span:
    """Through upsampling by repetition, or a transposed convolution whose kernel is its stride."""
    return span[0] // factor, span[1] // factor


def interpolated(span: Span, factor: int) -> Span:
    """Through linear upsampling, whose cell ``i`` lies at ``(i + 1/2) / factor - 1/2``; a weight of 0 is no dependence."""
    first, last = (2 * cell + 1 - factor for cell in span)  # in units of 1 / (2 factor)
    return first // (2 * factor), -(-last // (2 * factor))


def transposed(span: Span, factor: int, kernel: int) -> Span:
    """Through a transposed convolution of this stride and kernel, cut so that each cell becomes ``factor`` cells."""
    cut = (kernel - factor) // 2
    return -(-(span[0] + cut - kernel + 1) // factor), (span[1] + cut) // factor


def joined(*spans: Span) -> Span:
    """The smallest span that holds all."""
    return min(span[0] for span in spans), max(span[1] for span in spans)


def context_of(needs: Callable[[Span], Span], stride: int) -> int:
    """The voxels on either side beyond which nothing changes an output voxel; exact for a net whose pattern repeats by stride."""
    spans = {voxel: needs((voxel, voxel)) for voxel in range(stride)}
    return max(max(voxel - first, last - voxel) for voxel, (first, last) in spans.items())
