"""The not-clicked side of sessions whose log has no shown list, for each part of a window."""

from collections.abc import Mapping

import pyarrow as pa

from embft.clickstream.negatives import sample_not_clicked
from embft.stages.mining import mined_items
from embft.stages.models import Vocabulary, base_model, champion_model
from embft.stages.stage import Context


def with_shown(
    context: Context, parts: Mapping[str, pa.Table], told: Mapping[str, pa.Table], vocabulary: Vocabulary
) -> dict[str, pa.Table]:
    """Fill in each part's unknown shown lists, barring what was clicked up to that part.

    Not beyond it: that an item is clicked next week for a query must not show in what training calls not clicked. But a
    click that was left too soon to count bars its item as any other does.

    Mined negatives are drawn in train alone. In validation and test they would be those that one of the models to be
    compared, the one that training starts from, finds hardest.

    Args:
        context: Of the stage.
        parts: The sessions that count, oldest part first, beginning with train.
        told: The same parts as the log tells them.
        vocabulary: The catalogue, and what of a query a model gets.

    Returns:
        The parts, in their order, with no `shown` left unknown.
    """
    training = context.run.config.training
    earlier: list[pa.Table] = []
    filled = {}
    for name, part in parts.items():
        earlier.append(told[name])
        is_mined = name == "train" and context.run.config.judgements.negatives == "mined"
        filled[name] = sample_not_clicked(
            part,
            vocabulary.items_set.ids,
            count=training.sampled_negatives,
            seed=training.settings.seed,
            clicks_of=pa.concat_tables(earlier),
            mined=_mined(context, part, told[name], vocabulary) if is_mined else None,
        )
    return filled


def _mined(context: Context, train: pa.Table, told: pa.Table, vocabulary: Vocabulary) -> dict[str, list[str]]:
    from embft.finetuning.registry import find_ranker

    queries = train.filter(train["shown"].is_null())["query"].to_pylist()
    if not queries:
        return {}
    clicked: dict[str, set[str]] = {}
    for query, ids in zip(told["query"].to_pylist(), told["clicked"].to_pylist(), strict=True):
        clicked.setdefault(query, set()).update(ids)
    training = context.run.config.training
    champion = champion_model(context) if training.start_from != "base" else None
    return mined_items(
        champion or base_model(context),
        queries,
        vocabulary,
        find_ranker(training.settings.ranker),
        clicked=clicked,
        is_similarity=training.settings.is_similarity,
    )


def origin_of_negatives(sessions: pa.Table, *, is_mined: bool) -> str:
    """Say where the not-clicked side comes from: the shown lists, or a draw from the catalogue.

    Args:
        sessions: The window's, as the log tells them.
        is_mined: Whether train's draw is half of mined items.

    Returns:
        A phrase for the report.
    """
    n_sampled = sessions["shown"].null_count
    if not n_sampled:
        return "shown lists"
    drawn = "mined and sampled" if is_mined else "sampled"
    where = "; mined in train alone" if is_mined else ""
    share = f"{n_sampled} of {sessions.num_rows} sessions"
    return f"{drawn} from the catalogue for {share}, whose log has no shown list{where}"
