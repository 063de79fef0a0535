"""The made-up shop: its catalogue, and the words that its shoppers use and the catalogue does not."""

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydantic import Field, ValidationError

from embft.config_base import Strict
from embft.errors import ConfigError
from embft.yaml_files import YamlFile


class Product(Strict):
    """One item of the catalogue. Shoppers search within a department; what they want is of one kind."""

    id: str
    department: str
    kind: str
    text: str


class Fad(Strict):
    """A word that is said for a kind during some days of each cycle."""

    kind: str
    say: str
    starts: int = Field(ge=0)
    lasts: int = Field(ge=1)


class ShopperWords(Strict):
    """What shoppers say; `shopper_words.yaml` explains the keys."""

    misspelt: float = Field(ge=0, le=1)
    plain: float = Field(ge=0, le=1)
    cycle_days: int = Field(ge=1)
    kinds: dict[str, tuple[str, ...]]
    features: dict[str, tuple[str, ...]]
    fads: tuple[Fad, ...]

    def fads_of(self, day: date) -> dict[str, str]:
        """Give the word in fashion for each kind that has one.

        Args:
            day: The day; the cycle has no beginning, so that every stretch of days sees words come and go.

        Returns:
            Kind → word.
        """
        phase = day.toordinal() % self.cycle_days
        return {fad.kind: fad.say for fad in self.fads if (phase - fad.starts) % self.cycle_days < fad.lasts}


@dataclass(frozen=True)
class Shop:
    """A catalogue and the words of those who shop there.

    Args:
        products: The catalogue.
        words: What shoppers say.
    """

    products: tuple[Product, ...]
    words: ShopperWords


def load_shop(folder: Path) -> Shop:
    """Read a shop.

    Args:
        folder: Holds `catalogue.jsonl` and `shopper_words.yaml`.

    Returns:
        The shop.

    Raises:
        ConfigError: A file is missing or broken, an id comes twice, or the words speak of a kind that the catalogue
            has not, or not of one that it has.
    """
    catalogue, words_path = folder / "catalogue.jsonl", folder / "shopper_words.yaml"
    try:
        lines = catalogue.read_text(encoding="utf-8").splitlines()
        products = tuple(Product.model_validate(json.loads(line)) for line in lines)
    except (OSError, ValueError, ValidationError) as error:
        raise ConfigError(f"the shop in {folder} cannot be read: {error}") from None
    file = YamlFile(words_path)
    words = file.validated(file.expanded(dict), ShopperWords)
    if len({product.id for product in products}) < len(products):
        raise ConfigError(f"{catalogue}: an id comes twice; every item needs its own")
    sold = {product.kind for product in products}
    unknown = sorted(sold ^ set(words.kinds) | {fad.kind for fad in words.fads} - sold)
    if unknown:
        raise ConfigError(f"{words_path}: the kinds {', '.join(unknown)} are not both in kinds and in {catalogue}")
    return Shop(products, words)
