"""Run folders: what a training was, what it gave, and what it grew from. No torch."""

from lamella.runs.folder import RunFolder, list_runs
from lamella.runs.metrics import Metrics

__all__ = ["Metrics", "RunFolder", "list_runs"]
