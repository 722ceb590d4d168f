"""Find cracks, folds and whatever covers or bares a section, learnt from clean sections with damage painted on."""
