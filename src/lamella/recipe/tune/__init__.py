"""Finding good settings for a recipe: learning rates, batch sizes, any keys, and the making of instances.

Every way of tuning works in a folder of its own (``folder``), trains trials that are runs like any other (``trials``), goes on when
its command is repeated, and leaves a table, a page with charts and the recipe with the winner filled in (``report``).
"""
