"""Results as a table in Markdown and as plots."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.evaluation.clips import prompts as clips
from unmask.evaluation.clips.verdict import MOTION_TAGS, OBJECT_TAGS
from unmask.evaluation.clips.verdict import TAGS as CLIP_TAGS
from unmask.evaluation.prompts import CATEGORIES, THREE
from unmask.evaluation.results import Record, Result, difference, score
from unmask.evaluation.settings import CEILING
from unmask.evaluation.statistics import Interval
from unmask.evaluation.verdict import TAGS


@dataclass(frozen=True)
class _Layout:
    """What a report of a kind shows: ``figures`` are fields of a result with their digits,
    ``sound`` shares of images without any of some tags."""

    unit: str
    categories: tuple[str, ...]
    tags: tuple[str, ...]
    distance: str
    told: str  # in words, of the distance
    figures: dict[str, tuple[str, int]]
    sound: dict[str, tuple[str, ...]]


_PICTURES = _Layout(
    unit="image",
    categories=(*CATEGORIES, THREE),
    tags=TAGS,
    distance="frechet",
    told="Frechet distance on EfficientNet-lite0 features",
    figures={"distance": ("frechet", 1), "diversity": ("diversity", 2)},
    sound={},
)
_CLIPS = _Layout(
    unit="clip",
    categories=clips.CATEGORIES,
    tags=CLIP_TAGS,
    distance="motion_frechet",
    told="Frechet distance on motion features (of EfficientNet-lite0; no FVD)",
    figures={
        "motion distance": ("motion_frechet", 1),
        "flicker": ("flicker", 4),
        "frame cosine": ("frame_cosine", 4),
    },
    sound={"objects right": OBJECT_TAGS, "motion right": MOTION_TAGS},
)


def write_report(results: Sequence[Result], out: Path, baseline: str | None = None) -> str:
    """The table, written to ``out/table.md`` too, with ``score.png`` and ``distance.png`` beside
    it; ``baseline`` is the first setting unless named."""
    text = table(results, baseline)
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(text, encoding="utf-8")
    plot(results, lambda result: score(result.records), "score", out / "score.png")
    layout = _layout(results[0])
    plot(
        results,
        lambda result: _exact(getattr(result, layout.distance)),
        layout.told,
        out / "distance.png",
    )
    return text


def table(results: Sequence[Result], baseline: str | None = None) -> str:
    """Two tables in Markdown: scores and costs, then how images fail."""
    layout = _layout(results[0])
    asked = {record.category for record in results[0].records}
    categories = [category for category in layout.categories if category in asked]
    ceiling = next((result for result in results if result.name == CEILING), None)
    settings = [result for result in results if result.name != CEILING]
    base = next((result for result in settings if baseline in (None, result.name)), None)
    inputs = results[0].inputs
    unit, prompts = layout.unit, len(results[0].records)
    count = prompts * inputs.images
    true = count if layout is _PICTURES else prompts  # a prompt has one true clip
    lines = [
        f"{inputs.prompts} prompts a category that training may have met and "
        f"{inputs.held_out_prompts} held-out ones, {inputs.images} {unit}s a prompt, seed "
        f"{inputs.seed}, {inputs.precision}. Scores: means over the categories with bootstrap "
        "95 % intervals over prompts; the gap is paired with "
        f"{base.name if base else 'nothing'}. Distance: {layout.told} of {count} {unit}s to "
        f"{true} true ones after the tokenizer; the numbers bias it. Seconds a {unit}, drawn in "
        f"batches of {inputs.batch}.",
        "",
    ]
    heads = [
        "setting", "score", "of the ceiling", "gap", *categories, "held out",
        "of its ceiling", *layout.figures, "passes", "seconds",
    ]  # fmt: skip
    rows = []
    for result in results:
        seen, unseen = score(result.records), score(result.records, held_out=True)
        most = score(ceiling.records) if ceiling else None
        most_unseen = score(ceiling.records, held_out=True) if ceiling else None
        compared = base is not None and result is not base and result is not ceiling
        rows.append(
            [
                result.name,
                seen.text if seen else "",
                _ratio(seen, most),
                _signed(difference(result.records, base.records)) if compared and base else "",
                *(_number(category_share(result.records, category), 3) for category in categories),
                unseen.text if unseen else "",
                _ratio(unseen, most_unseen),
                *(
                    _number(getattr(result, name), digits)
                    for name, digits in layout.figures.values()
                ),
                _number(result.passes, 1),
                _number(result.seconds, 3),
            ]
        )
    lines += _markdown(heads, rows)
    lines += ["", "Shares of all " + unit + "s with each failure, and of right backgrounds:", ""]
    rows = [
        [
            result.name,
            *(f"{tag_share(result.records, tag):.3f}" for tag in layout.tags),
            _number(background_share(result.records), 3),
            *(f"{1 - any_share(result.records, tags):.3f}" for tags in layout.sound.values()),
        ]
        for result in results
    ]
    lines += _markdown(["setting", *layout.tags, "background", *layout.sound], rows)
    return "\n".join(lines) + "\n"


def category_share(records: Sequence[Record], category: str) -> float | None:
    """The share of right images in a category, held-out prompts left out; None without any."""
    shares = [
        record.share for record in records if record.category == category and not record.held_out
    ]
    return sum(shares) / len(shares) if shares else None


def tag_share(records: Sequence[Record], tag: str) -> float:
    """The share of all images that have a tag."""
    return any_share(records, (tag,))


def any_share(records: Sequence[Record], wanted: Sequence[str]) -> float:
    """The share of all images that have any of these tags."""
    tagged = [not set(tags).isdisjoint(wanted) for record in records for tags in record.tags]
    return sum(tagged) / len(tagged)


def background_share(records: Sequence[Record]) -> float | None:
    """The share of right backgrounds where one was asked for; None if none was."""
    right = [verdict for record in records for verdict in record.background if verdict is not None]
    return sum(right) / len(right) if right else None


def plot(
    results: Sequence[Result], value: Callable[[Result], Interval | None], label: str, path: Path
) -> None:
    """Draw a value against steps, a line a family of settings; the ceiling as a dashed line.

    A setting named ``NAME-STEPS`` belongs to the family NAME, any other is alone.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    axes.set_prop_cycle(color=pyplot.colormaps["tab20"](range(20)))  # more settings than ten
    families: dict[str, list[tuple[int, Interval]]] = {}
    for result in results:
        interval = value(result)
        if interval is None:
            continue
        if result.inputs.options is None:
            axes.axhline(interval.mean, color="grey", linestyle="--", label=result.name)
            continue
        steps = int(str(result.inputs.options["steps"]))
        families.setdefault(result.name.removesuffix(f"-{steps}"), []).append((steps, interval))
    for name, points in families.items():
        points.sort()
        steps_of, intervals = zip(*points, strict=True)
        means = [interval.mean for interval in intervals]
        errors = [
            [interval.mean - interval.low for interval in intervals],
            [interval.high - interval.mean for interval in intervals],
        ]
        axes.errorbar(steps_of, means, yerr=errors, marker="o", capsize=2, label=name)
    ticks = sorted({steps for points in families.values() for steps, _ in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axes.set(xlabel="steps", ylabel=label)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _layout(result: Result) -> _Layout:
    return _PICTURES if result.inputs.frames is None else _CLIPS


def _exact(value: float | None) -> Interval | None:
    return None if value is None else Interval(value, value, value)


def _ratio(ours: Interval | None, most: Interval | None) -> str:
    return f"{ours.mean / most.mean:.3f}" if ours and most and most.mean else ""


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _signed(gap: Interval) -> str:
    return f"{gap.mean:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"


def _markdown(heads: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]
