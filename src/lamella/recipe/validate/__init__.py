"""Heads, and affinities, validated: objects at several thresholds, scored against labels, for each checkpoint and sample."""
