"""What MLflow's registry holds of a model."""

from embft.experiments.reaching import reaching_mlflow


def version_tags(tracking_uri: str, model: str) -> dict[str, dict[str, str]]:
    """List a model's versions.

    Args:
        tracking_uri: MLflow's.
        model: Name of the registered model.

    Returns:
        Version → its tags.

    Raises:
        ConfigError: MLflow refuses.
        TemporaryError: MLflow is away.
    """
    from mlflow import MlflowClient

    with reaching_mlflow(tracking_uri, "list the model's versions"):
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        return {str(it.version): dict(it.tags) for it in client.search_model_versions(f"name='{model}'")}
