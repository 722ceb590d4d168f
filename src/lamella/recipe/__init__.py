"""Recipes: task, data and trainer together, from YAML with ``key=value`` changes; and runs made from them."""
