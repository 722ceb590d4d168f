"""Translate: from what one microscope shows to what another would show at the same place."""
