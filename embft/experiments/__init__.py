"""Experiment tracking: `ExperimentsManager` over MLflow."""
