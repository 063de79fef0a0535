"""What an evaluation says, readable without torch: the gate and the report need no more than that."""

from datetime import date

from pydantic import Field

from embft.results import Record


class Measures(Record):
    """What one model shows on the held-out sessions; means over clicked sessions."""

    val_loss: float
    ndcg_at_10: float
    mrr_at_10: float
    recall_at_10: float


class Evaluation(Record):
    """`evaluation.json`: every model's measures on one frozen set."""

    model: str
    day: date
    test_from: date
    inputs_sha256: str = Field(description="Digest of the held-out inputs; figures of two digests do not compare.")
    loss_func: str
    n_sessions: int = Field(description="Clicked sessions that the means are over.")
    n_items: int
    models: dict[str, Measures] = Field(description="base, champion (where there is one), challenger.")
