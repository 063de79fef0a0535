"""`TextImageModel`: queries are texts, items are images, as CLIP and its relatives compare them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from embft.errors import ConfigError, DataRejected
from embft.finetuning.models.towers import Towers, dim_of
from embft.finetuning.models.transformer import SentenceTransformerModel
from embft.finetuning.parts import Item

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


# As many patches as an image has in most of these models; a patch and a token cost alike.
_IMAGE_CHARACTERS = 256


class TextImageModel(SentenceTransformerModel):
    """The text part and its projection encode queries, the vision part and its projection encode items.

    Each part is trained by an optimiser of its own; the temperature that such a model carries is in neither.

    Args:
        model: Its first module holds a transformer with a text part and a vision part (CLIP, SigLIP …); changed in
            place as by `SentenceTransformerModel`.

    Raises:
        ConfigError: It has no such parts, or cuts its vectors off.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        if not is_text_image(model):
            raise ConfigError(
                f"the model's first module is {type(next(model.children())).__name__} for {model.modalities}; "
                "TextImageModel needs a text part and a vision part, as CLIP has: use SentenceTransformerModel"
            )
        super().__init__(model)

    def _towers(self) -> Towers:
        joint, *rest = self.model.children()
        return Towers(
            (joint.model.text_model, *_parts(joint.model, "text_projection"), *rest),
            (joint.model.vision_model, *_parts(joint.model, "visual_projection", "vision_projection"), *rest),
        )

    def _common_dim(self, towers: Towers) -> int:
        return dim_of(tuple(self.model.children()), self.model.truncate_dim)  # both end in one space

    def _query_input(self, text: str) -> Any:
        # Marked as a text: a bare one that looks like an address or a file's name would be opened as an image.
        return {"text": text}

    def _item_input(self, item: Item) -> Any:
        return {"image": _open(item) if isinstance(item, str | Path) else item}

    def _item_length(self, item: Item) -> int:
        return _IMAGE_CHARACTERS


def is_text_image(model: SentenceTransformer) -> bool:
    """Whether a model has a text part and a vision part that encode apart from each other.

    Args:
        model: Any SentenceTransformer.

    Returns:
        True for CLIP, SigLIP and their relatives.
    """
    joint = getattr(next(model.children()), "model", None)
    parts = [getattr(joint, name, None) for name in ("text_model", "vision_model")]
    return all(isinstance(part, nn.Module) for part in parts) and {"text", "image"} <= set(model.modalities)


def _parts(joint: nn.Module, *names: str) -> list[nn.Module]:
    return [part for name, part in joint.named_children() if name in names]


def _open(path: str | Path) -> Any:
    """The image in a local file.

    Raises:
        ConfigError: It is an address: a catalogue must not make us fetch what it names.
        DataRejected: There is no such file, or it holds no image.
    """
    from PIL import Image, UnidentifiedImageError

    if "://" in str(path):
        raise ConfigError(
            f"item {str(path)!r} is an address; images are read from local files only: download them first"
        )
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataRejected(f"cannot read the image {str(path)!r}: {error}; give the path of an image file") from error
