"""lamella trains and runs the neural networks that microscopists need, on images of any size."""

__version__ = "0.1.0"
