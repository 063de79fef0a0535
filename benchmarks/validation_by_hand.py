"""Both validations in plain pandas: what a good engineer writes in a day, without Great Expectations and its pages.

The same columns, the same rules with the same limits, the same figures of days, and the same files: what may go on, and
what was set aside, by rule. What is usual for a day is computed by the same few lines on both sides: it looks at two
dozen rows.
"""

import json
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.validation_data import DAYS, EXPECTATIONS, N_EARLIER, PARTS, ZONE
from embft.validation.day_figures import day_figures
from embft.validation.drift import distance, drift, summarise
from embft.validation.profiles import LOOKBACK_DAYS, MAX_POSITION, DayProfile
from embft.validation.scripts import _is_garbled, _script  # the very same judgement of a query
from embft.validation_config import Expectation, load_suite

Check = Callable[[], dict[str, Any]]
Figures = dict[str, tuple[float, float]]
_MAX_LEADS = 2_500


def sessions_and_ranks(folder: Path, out: Path) -> tuple[Check, Check]:
    """Prepare what earlier nights left.

    Args:
        folder: As `benchmarks.validation_data` laid it out.
        out: For files.

    Returns:
        What checks the sessions, and what checks the ranks; each gives its figures.
    """
    back, recent = timedelta(days=N_EARLIER), deque[pd.DataFrame](maxlen=LOOKBACK_DAYS)
    profiles = [
        _profile(day, pd.read_parquet(folder / f"{day}.parquet"), recent, n_lines=0, n_unknown_shown=0) for day in DAYS
    ]
    history = {it.day - back: it.model_copy(update={"day": it.day - back}) for it in profiles}
    test = pd.read_parquet(folder / "test.parquet", columns=["ranks"])
    reference = summarise(np.concatenate(test["ranks"].to_numpy()), len(test))
    return partial(_check_sessions, folder, out, history), partial(_check_ranks, folder, reference)


def _check_sessions(folder: Path, out: Path, history: Mapping[date, DayProfile]) -> dict[str, Any]:
    _check_items(pd.read_parquet(folder / "items.parquet"))
    item_ids = pd.read_parquet(folder / "items.parquet", columns=["id"])["id"]
    rules = load_suite(EXPECTATIONS, "sessions")
    ids = pd.concat([pd.read_parquet(folder / f"{day}.parquet", columns=["session_id"]) for day in DAYS])
    is_again = ids["session_id"].duplicated().to_numpy()
    recent = deque[pd.DataFrame](maxlen=LOOKBACK_DAYS)
    profiles, asides, totals = [], [], Counter[str]()
    for day in DAYS:
        sessions = pd.read_parquet(folder / f"{day}.parquet")
        again, is_again = is_again[: len(sessions)], is_again[len(sessions) :]
        frame = _session_frame(sessions, item_ids, again)
        broken = _broken(frame, rules)
        is_broken = broken.any(axis=1) if len(broken.columns) else pd.Series(False, index=frame.index)
        asides.append(_aside(sessions[is_broken], broken[is_broken]))
        clean = sessions[~is_broken]
        clean.to_parquet(out / f"clean-{day}.parquet")
        n_unknown_shown = int((frame["n_unknown_shown"][~is_broken] > 0).sum())
        profiles.append(_profile(day, clean, recent, n_lines=len(sessions), n_unknown_shown=n_unknown_shown))
        totals.update({"rows": len(clean), "clicked": int(frame["has_click"][~is_broken].sum())})
    pd.concat(asides).to_parquet(out / "quarantine.parquet")
    pd.concat([pd.read_parquet(out / f"clean-{day}.parquet") for day in DAYS]).to_parquet(out / "sessions.parquet")
    figures = day_figures(profiles, history, reference_days=42).frame
    reasons = [*_broken(figures, rules).any(), totals["rows"] < 1, totals["clicked"] < 1]
    (out / "reasons.json").write_text(json.dumps([bool(it) for it in reasons]))
    newest = {name: value for name, (value, _) in profiles[-1].figures.items()}
    return {"aside": sum(map(len, asides)), **newest}


def _check_items(items: pd.DataFrame) -> None:
    frame = pd.DataFrame(
        {
            "id_length": items["id"].str.strip().str.len(),
            "text_length": items["text"].str.strip().str.len(),
            "n_earlier_copies": items.groupby("id").cumcount(),
        }
    )
    _broken(frame, load_suite(EXPECTATIONS, "catalogue"))


def _broken(frame: pd.DataFrame, rules: Sequence[Expectation]) -> pd.DataFrame:
    """Say which rows break which of the rules that name a column of the frame and judge rows by themselves."""
    broken = {}
    for rule in rules:
        column, kwargs = rule.kwargs.get("column"), rule.kwargs
        if rule.type == "expect_column_values_to_be_between" and column in frame and "mostly" not in kwargs:
            low, high = kwargs.get("min_value", -np.inf), kwargs.get("max_value", np.inf)
            values = frame[column]
            broken[rule.name] = values.notna() & ~values.between(low, high)
    return pd.DataFrame(broken, index=frame.index)


def _session_frame(sessions: pd.DataFrame, item_ids: pd.Series, is_again: NDArray[np.bool_]) -> pd.DataFrame:
    clicks, shown = _exploded(sessions["clicked"]), _exploded(sessions["shown"])
    unknown_clicked = ~clicks["id"].isin(item_ids)
    unknown_shown = ~shown["id"].isin(item_ids)
    was_shown = clicks.merge(shown.drop_duplicates(["row", "id"]), how="left", on=["row", "id"], indicator=True)
    is_known = sessions["shown"].notna().to_numpy()
    not_shown = (was_shown["_merge"] == "left_only").to_numpy() & is_known[clicks["row"]]
    n, queries = len(sessions), sessions["query"]
    garbled = {query for query in queries.unique() if _is_garbled(query)}
    day = pd.to_datetime(sessions["day"])
    local_day = sessions["time"].dt.tz_convert(ZONE).dt.tz_localize(None).dt.normalize()
    return pd.DataFrame(
        {
            "query_length": queries.str.strip().str.len(),
            "is_garbled": queries.isin(garbled).astype(int),
            "n_earlier_copies": is_again.astype(int),
            "in_window": day.between(pd.Timestamp(DAYS[0]), pd.Timestamp(DAYS[-1])).astype(int),
            "days_off": (local_day - day).dt.days.abs(),
            "has_click": np.bincount(clicks["row"], minlength=n) > 0,
            "n_unknown_clicked": np.bincount(clicks["row"][unknown_clicked], minlength=n),
            "n_clicked_not_shown": np.bincount(clicks["row"][not_shown], minlength=n),
            "n_unknown_shown": np.bincount(shown["row"][unknown_shown], minlength=n),
        }
    )


def _exploded(lists: pd.Series) -> pd.DataFrame:
    """One row an entry: row of the list, id, place in it from 1."""
    entries = lists.reset_index(drop=True).explode().dropna()
    table = pd.DataFrame({"row": entries.index, "id": entries.to_numpy()})
    return table.assign(place=table.groupby("row").cumcount() + 1)


def _aside(sessions: pd.DataFrame, broken: pd.DataFrame) -> pd.DataFrame:
    names = np.array(broken.columns)
    return pd.DataFrame(
        {
            "id": sessions["session_id"],
            "rules": [names[row].tolist() for row in broken.to_numpy()],
            "raw": [json.dumps(row, default=_plain) for row in sessions.to_dict("records")],
        }
    )


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def _profile(
    day: date, sessions: pd.DataFrame, recent: deque[pd.DataFrame], *, n_lines: int, n_unknown_shown: int
) -> DayProfile:
    """Describe a day's good sessions, and remember them for the days after it."""
    sessions = sessions.reset_index(drop=True)
    clicks, shown = _exploded(sessions["clicked"]), _exploded(sessions["shown"])
    local = sessions["time"].dt.tz_convert(ZONE)
    traces = pd.DataFrame(
        {
            "query": sessions["query"],
            "clicked": sessions["clicked"].where(sessions["clicked"].str.len() > 0).str.join("|"),
            "at_us": (local - local.dt.normalize()).dt.total_seconds().mul(1e6).round().astype("int64"),
        }
    )
    places = clicks.merge(shown.drop_duplicates(["row", "id"]), on=["row", "id"], suffixes=("_clicked", ""))["place"]
    positions = np.bincount(places.clip(1, MAX_POSITION + 1) - 1, minlength=MAX_POSITION + 1)
    figures = {
        **(
            {f"{name}_share": _share(0, n_lines) for name in ("duplicate", "quarantined", "filtered")}
            if n_lines
            else {}
        ),
        **_of_day(sessions, traces, positions),
        "unknown_shown_share": _share(n_unknown_shown, len(sessions)),
        **(_against(traces, clicks, recent) if len(recent) == LOOKBACK_DAYS else {}),
    }
    recent.append(traces.drop_duplicates())
    scripts = Counter[str]()
    for query, n in sessions["query"].value_counts().items():
        scripts[_script(str(query))] += int(n)
    return DayProfile(
        day=day,
        figures={name: (float(value), float(error)) for name, (value, error) in figures.items()},
        hours=np.bincount(local.dt.hour, minlength=24).tolist(),
        positions=positions.tolist(),
        scripts=dict(scripts),
    )


def _of_day(sessions: pd.DataFrame, traces: pd.DataFrame, positions: NDArray[np.int64]) -> Figures:
    n = len(sessions)
    length = sessions["query"].str.len()
    clicked = traces.dropna(subset="clicked")
    return {
        "n_sessions": (n, np.sqrt(n)),
        "click_rate": _share(len(clicked), n),
        "query_length_mean": (length.mean(), length.std(ddof=0) / np.sqrt(n)),
        "top_query_share": _share(sessions["query"].value_counts().iloc[0], n),
        "top_second_share": _share((traces["at_us"] // 1_000_000).value_counts().iloc[0], n),
        "twin_share": _beyond_chance(int(clicked.duplicated().sum()), clicked, clicked.drop_duplicates(), n),
        "top_client_share": _share(sessions["client"].value_counts().iloc[0], sessions["client"].count()),
        "shown_share": _share(sessions["shown"].count(), n),
        "first_position_share": _share(positions[0], positions.sum()),
    }


def _against(traces: pd.DataFrame, clicks: pd.DataFrame, recent: deque[pd.DataFrame]) -> Figures:
    """Compare a day with the days before it."""
    before = pd.concat(recent)
    queries = before["query"].drop_duplicates()
    clicked, clicked_before = traces.dropna(subset="clicked"), before.dropna(subset="clicked").drop_duplicates()
    pairs = pd.DataFrame({"query": traces["query"].to_numpy()[clicks["row"]], "id": clicks["id"]})
    lists_before = clicked_before[["query", "clicked"]].drop_duplicates()
    pairs_before = lists_before.assign(id=lists_before["clicked"].str.split("|")).explode("id")[["query", "id"]]
    known = pairs[pairs["query"].isin(pairs_before["query"].drop_duplicates())]
    again = known.merge(pairs_before.drop_duplicates(), how="inner")
    n_repeated = len(clicked.merge(clicked_before, how="inner"))
    return {
        "unseen_query_share": _share((~traces["query"].isin(queries)).sum(), len(traces)),
        "repeated_share": _beyond_chance(n_repeated, clicked, clicked_before, len(traces)),
        "known_click_share": _share(len(again), len(known)),
    }


def _beyond_chance(n_equal: int, clicked: pd.DataFrame, others: pd.DataFrame, n: int) -> tuple[float, float]:
    """Take off what equals others a second later: that is chance alone."""
    later = clicked.assign(at_us=clicked["at_us"] + 1_000_000)
    by_chance = len(later.merge(others, how="inner"))
    return _share(max(0.0, n_equal - by_chance - 3 * float(np.sqrt(n_equal + by_chance))), n)


def _share(count: float, n: int) -> tuple[float, float]:
    centre = (count + 2) / (n + 4)
    return count / n, np.sqrt(centre * (1 - centre) / (n + 4))


def _check_ranks(folder: Path, reference: dict[str, Any]) -> dict[str, Any]:
    rules = load_suite(EXPECTATIONS, "ranks")
    frames, leads, ranks = [], {}, {}
    for part in PARTS:
        inputs = pd.read_parquet(folder / f"{part}.parquet", columns=["session_id", "results", "clicked", "ranks"])
        frame, leads[part], ranks[part] = _ranked(inputs)
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True)
    frame["n_earlier_copies"] = frame.groupby("session_id").cumcount()
    _broken(frame, rules)
    test = leads["test"]
    distribution = summarise(ranks["test"], int(frames[-1]["rank_min"].count()))
    every = np.concatenate(list(ranks.values()))
    figures = {
        "rank_mean": every.mean(dtype=np.float64),
        "rank_stdev": every.std(dtype=np.float64),
        **{f"{part}_lead": it.mean() for part, it in leads.items()},
        "test_lead_z": test.mean() / (test.std(ddof=0) / np.sqrt(min(len(test), _MAX_LEADS))),
        "rank_distance": distance(distribution, reference),
        "rank_drift": drift(distribution, reference),
        **_of_vectors(pd.read_parquet(folder / "vectors.parquet")),
    }
    _broken(pd.DataFrame([figures]), rules)
    names = ("rank_mean", "rank_stdev", "train_lead", "test_lead", "test_lead_z", "mean_cosine")
    return {name: float(figures[name]) for name in names}


def _ranked(inputs: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series, NDArray[np.float32]]:
    """Give the columns that rules name, each session's lead, and the finite ranks."""
    n = len(inputs)
    results, clicks = _exploded(inputs["results"]), _exploded(inputs["clicked"])
    ranks = inputs["ranks"].explode()
    values = pd.to_numeric(ranks)
    marked = results.merge(clicks.drop_duplicates(["row", "id"]), how="left", on=["row", "id"], indicator=True)
    is_click = (marked["_merge"] == "both").to_numpy()
    lost = clicks.merge(results.drop_duplicates(["row", "id"]), how="left", on=["row", "id"], indicator=True)
    by_row = values.groupby(level=0)
    low, high = by_row.min(), by_row.max()
    mean = {flag: values[is_click == flag].groupby(level=0).mean() for flag in (True, False)}
    frame = pd.DataFrame(
        {
            "session_id": inputs["session_id"],
            "n_results": inputs["results"].str.len(),
            "n_ranks": inputs["ranks"].str.len(),
            "n_missing": ranks.isna().groupby(level=0).sum(),
            "n_not_finite": np.isinf(values).groupby(level=0).sum(),
            "n_out_of_range": ((values < -1.001) | (values > 1.001)).groupby(level=0).sum(),
            "rank_min": low,
            "rank_max": high,
            "rank_spread": high - low,
            "n_clicked": inputs["clicked"].str.len(),
            "n_not_clicked": np.bincount(results["row"][~is_click], minlength=n),
            "n_clicked_without_rank": np.bincount(lost["row"][lost["_merge"] == "left_only"], minlength=n),
        }
    )
    return frame, (mean[True] - mean[False]).dropna(), values[np.isfinite(values)].to_numpy(np.float32)


def _of_vectors(vectors: pd.DataFrame) -> dict[str, float]:
    matrix = np.stack(vectors["vector"].to_numpy()).astype(np.float64)
    norms = np.linalg.norm(matrix, axis=1)
    units = matrix / norms[:, None]
    n, centred = len(units), units - units.mean(axis=0)
    covariance = centred.T @ centred / n
    return {
        "n_vectors_not_finite": float((~np.isfinite(norms)).sum()),
        "vector_norm_max_over_median": norms.max() / np.median(norms),
        "vector_norm_min_over_median": norms.min() / np.median(norms),
        "mean_cosine": (np.square(units.sum(axis=0)).sum() - n) / (n * (n - 1)),
        "effective_dimensions": np.trace(covariance) ** 2 / np.square(covariance).sum(),
    }
