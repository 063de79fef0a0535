"""What may explain a regression: only what is unusual on the day, each with its figures, the likeliest first."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from embft.monitoring.day import BASE, CHAMPION, MonitoredDay, Traffic
from embft.monitoring.message import Cause
from embft.monitoring.rules import Verdict
from embft.monitoring.wording import figure_text, share_text
from embft.promotion.wording import is_lower_better, measure_name

_USUAL_DAYS = 14
_MIN_DAYS = 5
_DEVIATIONS = 3.0
_TO_DEVIATION = 1.4826
_MOST = 6
_LONGEST_QUERY = 60


@dataclass(frozen=True)
class Scene:
    """A regression, and the days around it.

    Args:
        day: The day that is told of.
        before: The last day before the regression; None where the history begins with it.
        usual: Measured days before it, two weeks at most: what is usual.
        told: The verdict that is told first.
        said: All verdicts on the same queries.
    """

    day: MonitoredDay
    before: MonitoredDay | None
    usual: tuple[MonitoredDay, ...]
    told: Verdict
    said: tuple[Verdict, ...]

    def drop_of(self, slice_name: str, model: str) -> tuple[float, float, float] | None:
        """Give a model's figure, its usual one, and the share by which it is worse; None where one is not known."""
        figures = [_figure(it, slice_name, model, self.told.measure) for it in (*self.usual, self.day)]
        past, now = [it for it in figures[:-1] if it is not None], figures[-1]
        if now is None or len(past) < _MIN_DAYS or not (usual := median(past)):
            return None
        worse = now - usual if is_lower_better(self.told.measure) else usual - now
        return now, usual, worse / abs(usual)

    @property
    def same_clicks(self) -> Verdict | None:
        """What the clicks of the day before say, where they could be judged."""
        return next((it for it in self.said if it.kind == "same_clicks" and it.is_judged), None)

    @property
    def is_of_the_model(self) -> bool | None:
        """Whether the model, its vectors or the catalogue are the reason; None where nothing tells."""
        if self.same_clicks is not None and self.same_clicks.state == "broken":
            return True
        base, champion = self.drop_of(self.told.slice, BASE), self.drop_of(self.told.slice, CHAMPION)
        if base is None or champion is None:
            return None
        # What has fallen about as much without any training has fallen by what people search for.
        return base[2] < champion[2] / 2

    @property
    def has_lost_items(self) -> bool:
        """Whether clicked items are missing from what is ranked as on no usual day."""
        return next(_lost_items(self), None) is not None


def scene_of(days: Sequence[MonitoredDay], number: int, since: int, told: Verdict, said: Sequence[Verdict]) -> Scene:
    """Set a regression before what was usual.

    Args:
        days: The history.
        number: Place of the day that is told of.
        since: Place of the regression's first day.
        told: The verdict that is told first.
        said: All verdicts on the same queries.

    Returns:
        The scene.
    """
    measured = [it for it in days[:since] if it.status == "measured"]
    return Scene(
        day=days[number],
        before=measured[-1] if measured else None,
        usual=tuple(measured[-_USUAL_DAYS:]),
        told=told,
        said=tuple(said),
    )


def likely_causes(scene: Scene) -> tuple[Cause, ...]:
    """Say what may explain a regression.

    Args:
        scene: The regression.

    Returns:
        At most six, each with evidence, the likeliest first; nothing is said for the sake of saying something.
    """
    found = [cause for finder in _FINDERS for cause in finder(scene)]
    return tuple(found[:_MOST])


def _same_clicks(scene: Scene) -> Iterator[Cause]:
    verdict, day = scene.same_clicks, scene.day
    if verdict is None or verdict.state != "broken" or day.same_clicks is None:
        return
    assert verdict.figure is not None
    assert verdict.usual is not None
    assert verdict.drop is not None
    figures = (
        f"the clicks of {day.same_clicks.day}, ranked again, get {measure_name(verdict.measure)} "
        f"{figure_text(verdict.figure)}, {share_text(verdict.drop)} worse than the {figure_text(verdict.usual)} before"
    )
    yield Cause(
        what="The model, its vectors or the catalogue changed, not what people search for",
        # Where that is what is told, the figures stand above.
        evidence=f"it is the clicks of {day.same_clicks.day} that fell, ranked again"
        if verdict is scene.told
        else figures,
    )


def _traffic(scene: Scene) -> Iterator[Cause]:
    base, champion = scene.drop_of(scene.told.slice, BASE), scene.drop_of(scene.told.slice, CHAMPION)
    if scene.is_of_the_model is not False or base is None or champion is None or base[2] <= 0:
        return
    again = scene.same_clicks
    sure = "" if again is None else f"; the clicks of the day before are ranked as well as then ({_signed(again)})"
    yield Cause(
        what="People search for other things, which are harder to answer",
        evidence=f"the base model, which nobody trains, is {share_text(base[2])} worse as well, {figure_text(base[0])} "
        f"against a usual {figure_text(base[1])}{sure}",
    )


def _lost_items(scene: Scene) -> Iterator[Cause]:
    if risen := _risen(scene, lambda it: _ratio(it.lost_sessions, it.clicked_sessions), at_least=0.02):
        now, usual = risen
        yield Cause(
            what="Items that people click are missing from what is ranked",
            evidence=f"in {share_text(now)} of the clicked searches no clicked item is there "
            f"(usual: {share_text(usual)})",
        )


def _catalogue(scene: Scene) -> Iterator[Cause]:
    traffic = scene.day.traffic
    removed, added = traffic.items_removed or 0, traffic.items_added or 0
    for count, verb, of in ((removed, "are gone", _removed_share), (added, "are new", _added_share)):
        if _risen(scene, of, at_least=0.02):
            since = f"since {scene.before.day}" if scene.before else "since the day monitored before"
            yield Cause(
                what="The catalogue changed",
                evidence=f"{count:,} items {verb} {since}; it has {traffic.items:,} now",
            )


def _champion(scene: Scene) -> Iterator[Cause]:
    day, before = scene.day, scene.before
    if before is None:
        return
    if before.champion != day.champion:
        yield Cause(
            what="Another version serves",
            evidence=f"version {day.champion} of the night {day.champion_day}; on {before.day} it was version "
            f"{before.champion}",
        )
    if before.vectors != day.vectors:
        yield Cause(
            what="Other vectors are ranked", evidence=f"{_VECTORS[day.vectors]}; before, {_VECTORS[before.vectors]}"
        )


def _age(scene: Scene) -> Iterator[Cause]:
    learned = scene.day.champion_day
    if learned is not None and (age := (scene.day.day - learned).days) > _USUAL_DAYS:
        yield Cause(
            what="The champion is old",
            evidence=f"version {scene.day.champion} knows no click after {learned}, {age} days before",
        )


def _unseen(scene: Scene) -> Iterator[Cause]:
    if risen := _risen(scene, lambda it: it.unseen_share, at_least=0.05):
        now, usual = risen
        yield Cause(
            what="Many new queries",
            evidence=f"{share_text(now)} of the clicked searches have a query that no day before had "
            f"(usual: {share_text(usual)})",
        )


def _quarantine(scene: Scene) -> Iterator[Cause]:
    if risen := _risen(scene, lambda it: _ratio(it.quarantined, it.lines), at_least=0.01):
        now, usual = risen
        yield Cause(
            what="Much of the log cannot be read",
            evidence=f"{share_text(now)} of its {scene.day.traffic.lines:,} lines are in quarantine "
            f"(usual: {share_text(usual)})",
        )


def _volume(scene: Scene) -> Iterator[Cause]:
    if unusual := _unusual(scene, lambda it: float(it.clicked_sessions), relative=0.3):
        now, usual = unusual
        yield Cause(
            what=f"{'More' if now > usual else 'Fewer'} clicks than usual",
            evidence=f"{now:,.0f} searches with a click (usual: {usual:,.0f})",
        )


def _warnings(scene: Scene) -> Iterator[Cause]:
    often = [text for day in scene.usual for text in day.traffic.warnings]
    for text in scene.day.traffic.warnings:
        if often.count(text) <= len(scene.usual) // 2:
            yield Cause(what="Warning of the day", evidence=text)


def _slices(scene: Scene) -> Iterator[Cause]:
    whole = scene.drop_of(scene.told.slice, CHAMPION)
    if scene.told.slice != "all" or whole is None or whole[2] <= 0:
        return
    names = [it.name for it in scene.day.sets if it.name != "all" and it.n_queries >= _MIN_DAYS]
    falls = [(fall[2], name, fall) for name in names if (fall := scene.drop_of(name, CHAMPION)) is not None]
    worst, name, fall = max(falls, default=(0.0, "", whole))
    if worst > 1.5 * whole[2]:
        yield Cause(
            what=f"{name} queries fell most",
            evidence=f"{figure_text(fall[0])}, {share_text(worst)} worse than their usual {figure_text(fall[1])}",
        )


def _queries(scene: Scene) -> Iterator[Cause]:
    last = {it.query: (it, day.day) for day in scene.usual for it in day.examples}
    for now in scene.day.examples[:2]:
        then, day = last.get(now.query, (None, None))
        was = "" if then is None else f", {figure_text(then.ndcg)} on {day}"
        if then is None or now.ndcg < then.ndcg - 0.1:
            yield Cause(
                what=f"Query “{_short(now.query)}”",
                evidence=f"{now.n_sessions:,} clicked searches at nDCG@10 {figure_text(now.ndcg)}{was}",
            )


_FINDERS: tuple[Callable[[Scene], Iterator[Cause]], ...] = (
    _same_clicks,
    _lost_items,
    _traffic,
    _champion,
    _age,
    _catalogue,
    _unseen,
    _quarantine,
    _volume,
    _warnings,
    _slices,
    _queries,
)
_VECTORS = {
    "published": "those that were published",
    "encoded": "those that the model gives now, as none of it are published",
    None: "none",
}


def _unusual(
    scene: Scene, of: Callable[[Traffic], float | None], *, at_least: float = 0.0, relative: float = 0.0
) -> tuple[float, float] | None:
    """Give a day's figure and the usual one; None where it is as usual, or nobody knows.

    Unusual is what is away from the median of the days before by more than three of their deviations (1.4826 MAD) and
    by more than what would be worth a word.
    """
    past = [it for it in (of(day.traffic) for day in scene.usual) if it is not None]
    now = of(scene.day.traffic)
    if now is None or len(past) < _MIN_DAYS:
        return None
    usual = median(past)
    scatter = _TO_DEVIATION * median(abs(it - usual) for it in past)
    is_unusual = abs(now - usual) > max(_DEVIATIONS * scatter, at_least, relative * usual)
    return (now, usual) if is_unusual else None


def _risen(scene: Scene, of: Callable[[Traffic], float | None], *, at_least: float) -> tuple[float, float] | None:
    """Give a day's figure and the usual one, where it is unusual and higher."""
    unusual = _unusual(scene, of, at_least=at_least)
    return unusual if unusual and unusual[0] > unusual[1] else None


def _figure(day: MonitoredDay, slice_name: str, model: str, measure: str) -> float | None:
    found = next((it for it in day.sets if it.name == slice_name), None)
    return None if found is None else found.models.get(model, {}).get(measure)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _removed_share(traffic: Traffic) -> float | None:
    removed = traffic.items_removed
    return None if removed is None else _ratio(removed, traffic.items + removed)


def _added_share(traffic: Traffic) -> float | None:
    return None if traffic.items_added is None else _ratio(traffic.items_added, traffic.items)


def _signed(verdict: Verdict) -> str:
    assert verdict.drop is not None
    change = -round(100 * verdict.drop, 1)
    return f"{change:+g} %" if change else "no change"


def _short(query: str) -> str:
    return query if len(query) <= _LONGEST_QUERY else f"{query[:_LONGEST_QUERY]}…"
