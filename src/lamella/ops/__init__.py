"""Pure functions on arrays and tensors: fields, masks, losses, metrics, normalisation."""
