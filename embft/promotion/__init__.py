"""From a trained challenger to a serving champion: evaluate, decide, register, publish."""
