"""How a list of results is clicked: a position-based and a cascade click model.

Position-based: someone looks at the result at rank k with probability 1 / k^eta, or as given, and clicks what they look
at if it attracts them. Now and then they click what does not, the sooner the higher it stands, for they trust the
shop's order. Cascade: someone reads from the top and clicks what attracts them; after a click they seldom go on.

Source: Craswell et al. 2008, "An experimental comparison of click position-bias models", WSDM (both models; the first
is their "examination hypothesis"); Agarwal et al. 2019, "Addressing trust bias for unbiased learning-to-rank", WWW (the
noise); Guo et al. 2009, "Efficient multiple-click models in web search", WSDM (going on after a click).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from embft.errors import ConfigError

Floats = NDArray[np.float64]
ClickModelName = Literal["position", "cascade"]


class ClickModel(Protocol):
    """What the simulator asks of a click model; every array is [sessions, positions]."""

    def looked_at(self, attraction: Floats) -> Floats:
        """Give the probability that each result is looked at, before anything is known of the clicks."""

    def clicks(self, attraction: Floats, generator: np.random.Generator) -> NDArray[np.bool_]:
        """Draw which results are clicked."""


@dataclass(frozen=True)
class PositionBasedModel:
    """Draws clicks that depend on a result's own rank and attraction alone.

    Args:
        eta: How fast attention falls; 0: every rank is looked at, 1: rank 2 by half of the people.
        trust_noise: Probability that an unattractive result at rank 1 is clicked once it is looked at.
        propensities: Probability that each rank is looked at, in place of eta; float64 [positions], each in (0, 1].
            Ranks beyond the last take the last.

    Raises:
        ConfigError: A propensity is not in (0, 1], or there is none, or trust_noise is not in [0, 1].
    """

    eta: float = 0.8
    trust_noise: float = 0.03
    propensities: Sequence[float] | Floats | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.trust_noise <= 1:
            raise ConfigError(f"trust_noise is {self.trust_noise}; it must be from 0 to 1")
        if self.propensities is None:
            return
        given = tuple(map(float, self.propensities))
        if not given:
            raise ConfigError("propensities is empty; it must hold a number above 0 and at most 1 for each rank")
        for rank, propensity in enumerate(given, 1):
            if not 0 < propensity <= 1:
                raise ConfigError(f"propensities holds {propensity} at rank {rank}; it must be above 0 and at most 1")
        # A tuple, so that two models with the same numbers are equal.
        object.__setattr__(self, "propensities", given)

    def examination(self, n_positions: int) -> Floats:
        """Give the probability that each rank is looked at.

        Args:
            n_positions: Length of the list.

        Returns:
            float64 [n_positions]; 1 at the top unless propensities are given.
        """
        ranks = np.arange(1, n_positions + 1)
        if self.propensities is None:
            falling: Floats = ranks.astype(np.float64) ** -self.eta
            return falling
        given: Floats = np.array(self.propensities, dtype=np.float64)[np.minimum(ranks, len(self.propensities)) - 1]
        return given

    def looked_at(self, attraction: Floats) -> Floats:
        """Give the probability that each result is looked at: its rank's.

        Args:
            attraction: Only its shape counts, [sessions, positions].

        Returns:
            float64 [sessions, positions].
        """
        return np.broadcast_to(self.examination(attraction.shape[1]), attraction.shape)

    def click_probabilities(self, attraction: Floats) -> Floats:
        """Give the probability that each result is clicked.

        Args:
            attraction: Probability that a result is clicked once it is looked at, 0 … 1, float64 [sessions, positions].

        Returns:
            float64 [sessions, positions].
        """
        examination = self.examination(attraction.shape[1])
        noise = self.trust_noise * examination
        return examination * (attraction + (1 - attraction) * noise)

    def clicks(self, attraction: Floats, generator: np.random.Generator) -> NDArray[np.bool_]:
        """Draw which results are clicked.

        Args:
            attraction: As for `click_probabilities`.
            generator: Source of chance.

        Returns:
            bool [sessions, positions].
        """
        return generator.random(attraction.shape) < self.click_probabilities(attraction)


@dataclass(frozen=True)
class CascadeModel:
    """Draws clicks of people who read from the top, click what attracts them, and then stop or go on.

    Args:
        continuation: Probability to read on after a click. 0 is Craswell's cascade: one click at most.

    Raises:
        ConfigError: continuation is not in [0, 1].
    """

    continuation: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.continuation <= 1:
            raise ConfigError(f"continuation is {self.continuation}; it must be from 0 to 1")

    def looked_at(self, attraction: Floats) -> Floats:
        """Give the probability that each result is looked at: that no click above it ended the search.

        Args:
            attraction: Probability that a result is clicked once it is looked at, 0 … 1, float64 [sessions, positions].

        Returns:
            float64 [sessions, positions]; 1 at the top.
        """
        goes_on = 1 - attraction * (1 - self.continuation)
        looked_at = np.ones_like(goes_on)
        looked_at[:, 1:] = np.cumprod(goes_on[:, :-1], axis=1)
        return looked_at

    def click_probabilities(self, attraction: Floats) -> Floats:
        """Give the probability that each result is clicked.

        Args:
            attraction: As for `looked_at`.

        Returns:
            float64 [sessions, positions].
        """
        return self.looked_at(attraction) * attraction

    def clicks(self, attraction: Floats, generator: np.random.Generator) -> NDArray[np.bool_]:
        """Draw which results are clicked.

        Args:
            attraction: As for `looked_at`.
            generator: Source of chance.

        Returns:
            bool [sessions, positions].
        """
        attracts = generator.random(attraction.shape) < attraction
        stops = attracts & (generator.random(attraction.shape) >= self.continuation)
        stopped_above = np.zeros_like(stops)
        stopped_above[:, 1:] = np.logical_or.accumulate(stops[:, :-1], axis=1)
        return attracts & ~stopped_above


def click_model_of(
    name: ClickModelName, *, propensities: Sequence[float] | None = None, trust_noise: float = 0.03
) -> ClickModel:
    """Give the click model of a name.

    Args:
        name: "position" or "cascade".
        propensities: Of the position-based model.
        trust_noise: Of the position-based model; the cascade has none.

    Returns:
        The model.

    Raises:
        ConfigError: The name is unknown, propensities are given to the cascade, or a number is out of its range.
    """
    if name not in get_args(ClickModelName):
        raise ConfigError(f"click_model is {name!r}; it must be one of {', '.join(get_args(ClickModelName))}")
    if name == "position":
        return PositionBasedModel(trust_noise=trust_noise, propensities=propensities)
    if propensities is not None:
        raise ConfigError("propensities are given and click_model is 'cascade'; only 'position' takes propensities")
    return CascadeModel()
