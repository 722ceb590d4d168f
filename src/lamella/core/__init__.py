"""The nouns that every floor shares: boxes, configs, random streams, volumes, ops. No torch, no formats."""
