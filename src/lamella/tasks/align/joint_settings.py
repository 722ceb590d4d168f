"""How sections are aligned to several of their neighbours at once (see ``joint``)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lamella.core.config import Config


class JointSettings(Config):
    """Links between sections, and how they are brought together by ``vote`` and ``joint``."""

    neighbours: int = Field(2, ge=1, description="sections before each one that it is matched with")
    far: float = Field(
        0.1,
        gt=0,
        le=1,
        description="weight of a match one section further apart against a nearer one that is as sure; tissue and nets differ",
    )
    rounds: int = Field(
        2, ge=1, description="times that all pairs are matched, from the second on between sections as aligned so far"
    )
    width: float = Field(
        2.0,
        gt=0,
        description="pixels by which what one neighbour says may differ from what the others say before it loses its say",
    )
    springs: float = Field(
        0.002, ge=0, description="weight of smoothness of each section's field, against 1 for a sure match (joint)"
    )
    penalty: Literal["jacob", "rigidity"] = Field(
        "jacob",
        description="what is smooth: equal displacements, or kept distances, under which tissue may turn (joint)",
    )
    window: int = Field(
        32,
        ge=4,
        description="sections that are relaxed at once; windows overlap by half, and memory follows them (joint)",
    )
    ends: Literal["first", "both"] = Field(
        "first",
        description="which ends of a chain stay where they are (joint; both needs a window that holds the chain)",
    )
