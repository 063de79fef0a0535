"""How the gate's findings are told: measures by their names, and a rule's finding in one sentence."""

from embft.promotion.bootstrap import Sample
from embft.promotion.evaluation_record import MOST_CLICKED, Comparison, Evaluation
from embft.promotion_config import COSTS, MAIN_CUTOFF, GateRule

_NAMES = {
    "val_loss": "validation loss",
    "not_irrelevant_dist_shift": "shift of clicked items",
    "irrelevant_dist_shift": "shift of not-clicked items",
    "model_mb": "size of the weights in MB",
    "encode_ms": "time to encode a query in ms",
}
_MAIN_MEASURE = f"ndcg_at_{MAIN_CUTOFF}"
_MODELS = {"interpolation": "mixture", MOST_CLICKED: "look-up table"}
_RANKING = {"ndcg": "nDCG", "mrr": "MRR", "recall": "Recall"}


def measure_name(measure: str) -> str:
    """Give a measure's name for people: `ndcg_at_10` → `nDCG@10`."""
    if measure in _NAMES:
        return _NAMES[measure]
    name, _, k = measure.partition("_at_")
    return f"{_RANKING[name]}@{k}"


def model_name(name: str) -> str:
    """Give a model's name for people: `interpolation` → `mixture`."""
    return _MODELS.get(name, name)


def is_lower_better(measure: str) -> bool:
    """Whether a smaller figure is the better one."""
    return measure == "val_loss" or measure in COSTS


def opponent_of(rule: GateRule, evaluation: Evaluation) -> str:
    """Name what a rule compares the candidate with."""
    return MOST_CLICKED if rule.against == "most_clicked" else evaluation.opponent


def rule_name(rule: GateRule) -> str:
    """Give the name by which a rule is found in the config."""
    return f"gate.{rule.name}" if rule.name in ("max_val_loss", "min_relative_gain") else f"rule {rule.name}"


def finding(rule: GateRule, sample: Sample, ours: float, theirs: tuple[str, float], confidence: float) -> str:
    """Tell what a rule found.

    Args:
        rule: The rule.
        sample: What is held against its limit: a gain, or the candidate's own figure.
        ours: The candidate's figure.
        theirs: Who the opponent is, and its figure.
        confidence: Of the interval.

    Returns:
        A clause with both figures, how sure they are, and the limit.
    """
    told = f"{measure_name(rule.measure)}{where(rule)} {ours:.4f}"
    sure = _sureness(rule, sample, confidence)
    if rule.min_gain is None:
        bound, limit = ("at most", rule.at_most) if rule.at_most is not None else ("at least", rule.at_least)
        return f"{told} ({sure}{rule_name(rule)} asks for {bound} {limit:g})"
    opponent, figure = theirs
    wanted = f"asks for {rule.limit:.1%} better" if rule.limit >= 0 else f"allows {-rule.limit:.1%} worse"
    away = _away(ours, figure)
    return f"{told} is {away} the {model_name(opponent)}'s {figure:.4f} ({sure}{rule_name(rule)} {wanted})"


def where(rule: GateRule) -> str:
    """Say on which queries a rule looks; nothing for all of them."""
    if rule.guard:
        return f" on guard {rule.guard}"
    return "" if rule.slice == "all" else f" on {rule.slice} queries"


def _away(ours: float, theirs: float) -> str:
    if ours == theirs:
        return "equal to"
    share = f"{abs(ours / theirs - 1):.1%} " if theirs else ""
    return f"{share}{'below' if ours < theirs else 'above'}"


def _sureness(rule: GateRule, sample: Sample, confidence: float) -> str:
    if rule.confidence == "off":
        return ""
    if not sample.is_sure:
        return "too few queries to say how sure; "
    low, high = sample.interval(confidence)
    if rule.min_gain is None:
        return f"with {100 * confidence:g}% confidence {low:.4f} to {high:.4f}; "
    return f"with {100 * confidence:g}% confidence {low:+.1%} to {high:+.1%} better; "


def most_clicked_warning(evaluation: Evaluation) -> str | None:
    """Say that the candidate loses to the look-up table.

    Args:
        evaluation: Of the night.

    Returns:
        A sentence without its full stop; None where it does not lose, or the table was not measured.
    """
    found = next((it for it in evaluation.against_most_clicked if _is_main(it)), None)
    if found is None or found.figure >= found.opposed:
        return None
    return (
        "a look-up table of past clicks ranks better than this model: "
        f"{measure_name(_MAIN_MEASURE)} {found.opposed:.4f} to the {model_name(evaluation.candidate)}'s "
        f"{found.figure:.4f}{_surely_worse(found, evaluation.confidence)}"
    )


def _is_main(it: Comparison) -> bool:
    return (it.kind, it.of, it.measure) == ("slice", "all", _MAIN_MEASURE)


def _surely_worse(found: Comparison, confidence: float) -> str:
    if found.high is None or found.low is None:
        return f"; {found.n_queries} different queries are too few to say how sure that is"
    told = f"with {100 * confidence:g}% confidence the model is"
    if found.high < 0:
        return f"; {told} {-found.high:.1%} to {-found.low:.1%} worse"
    return f"; that is not sure: {told} {-found.low:.1%} worse to {found.high:.1%} better"
