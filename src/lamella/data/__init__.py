"""Samples, and what may happen to them before a net sees them: geometry, augmentation."""
