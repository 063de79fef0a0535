"""How a list of results is clicked: the position-based click model, with noise from trust in the top places.

Someone looks at the result at rank k with probability 1 / k^eta, and clicks what they look at if it attracts them. Now
and then they click what does not, the sooner the higher it stands, for they trust the shop's order.

Source: Craswell et al. 2008, "An experimental comparison of click position-bias models", WSDM (the model is their
"examination hypothesis"); Agarwal et al. 2019, "Addressing trust bias for unbiased learning-to-rank", WWW (the noise).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PositionBasedModel:
    """Draws clicks.

    Args:
        eta: How fast attention falls; 0: every rank is looked at, 1: rank 2 by half of the people.
        trust_noise: Probability that an unattractive result at rank 1 is clicked once it is looked at.
    """

    eta: float = 0.8
    trust_noise: float = 0.03

    def examination(self, n_positions: int) -> Floats:
        """Give the probability that each rank is looked at.

        Args:
            n_positions: Length of the list.

        Returns:
            float64 [n_positions]; 1 at the top.
        """
        return np.arange(1, n_positions + 1, dtype=np.float64) ** -self.eta

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
