"""Cover a volume with blocks and run a job over them: in this process or on a cluster, resumable after any kill."""

from lamella.blockwise.blocks import Block, Cover, cover
from lamella.blockwise.chain import Chain
from lamella.blockwise.executor import Crew, Executor
from lamella.blockwise.failure import Failure, PoisonedBlocks
from lamella.blockwise.job import Job
from lamella.blockwise.ledger import Ledger
from lamella.blockwise.runner import Report, run
from lamella.blockwise.unfinished import Unfinished

__all__ = [
    "Block",
    "Chain",
    "Cover",
    "Crew",
    "Executor",
    "Failure",
    "Job",
    "Ledger",
    "PoisonedBlocks",
    "Report",
    "Unfinished",
    "cover",
    "run",
]
