"""Learn what is wanted of images, affinities or classes, with a small head on embeddings, from dense labels or from a few points."""
