"""The fine-tuner and its vocabulary: inputs, items, features, confidences, losses, metrics, models, trainer.

Usable alone, in a notebook: nothing here knows of S3, Airflow or a config file.
"""
