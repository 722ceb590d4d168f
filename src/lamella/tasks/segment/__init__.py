"""Segment: find every cell of an image, as a net that predicts objects, boundaries and distances, and instances made of them."""
