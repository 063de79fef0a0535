"""What a SentenceTransformer says about itself besides its modules: the prompt of items, and a shorter vector."""

from __future__ import annotations

from collections.abc import Mapping

from embft.errors import ConfigError

ITEM_PROMPT_NAMES = ("document", "passage", "corpus")


def item_prompt_of(prompts: Mapping[str, str | None]) -> str:
    """Choose the prompt of items: the first of "document", "passage" and "corpus" that is not empty.

    `encode_document` of sentence-transformers 6.2 never comes to "passage", for every model has a "document" prompt,
    empty if need be.

    Args:
        prompts: Name → prompt; None counts as empty.

    Returns:
        The prompt, "" where there is none.
    """
    given = (prompts.get(name) for name in ITEM_PROMPT_NAMES)
    return next((prompt for prompt in given if prompt), "")


def check_truncation(truncate_dim: int | None, dim: int) -> None:
    """Refuse a model that cuts its vectors off.

    sentence-transformers cuts them after their length was made 1, so they are shorter than 1 there; here every vector
    has unit length, and the model that is served would not be the one that was trained.

    Args:
        truncate_dim: Where it cuts; None leaves vectors whole, and so does `dim`.
        dim: Of its vectors.

    Raises:
        ConfigError: It is another number.
    """
    if truncate_dim not in (None, dim):
        raise ConfigError(
            f"the model's truncate_dim is {truncate_dim}, and its vectors have {dim} numbers; only whole ones can be "
            "trained: take truncate_dim out of it (of config_sentence_transformers.json in its folder)"
        )
