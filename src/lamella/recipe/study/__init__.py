"""Studies: what embeddings are worth, beside what people do without them, for different numbers of points."""
