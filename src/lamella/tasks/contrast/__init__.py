"""Learn, from images without labels, embeddings that tell places apart by what they show."""
