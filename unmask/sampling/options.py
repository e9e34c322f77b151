"""What a request may choose of its sampling: the options of all methods under flat public names.

Nothing is listed here that a method declares itself (``unmask.sampling.methods``).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from unmask.config import checked
from unmask.errors import RequestError, choices, look_up
from unmask.sampling.counts import CountRule
from unmask.sampling.guidance import Guidance
from unmask.sampling.logits import LOGIT_OPTIONS, LogitOption
from unmask.sampling.methods import (
    Kind,
    Method,
    Option,
    check_range,
    declared_options,
    option,
)
from unmask.sampling.planned import MAX_STEPS
from unmask.sampling.reuse import REUSE_POLICIES, ReusePolicy
from unmask.sampling.scheduler import Scheduler
from unmask.sampling.schedulers import SCHEDULERS
from unmask.sampling.schedules import MASK_SCHEDULES, listed_schedule
from unmask.sampling.zigzag import Zigzag

_COLDEST = 0.01  # of temperatures that others lead to or come from

KINDS: dict[str, Kind[Any]] = {
    kind.param: kind
    for kind in (
        Kind("scheduler", SCHEDULERS, "halton", "which positions a step reveals"),
        Kind(
            "guidance",
            Guidance.registry,
            "constant",
            "how the scale runs over the steps, from 1 up to s",
        ),
        Kind(
            "count_rule",
            CountRule.registry,
            "planned",
            "what may reveal more than planned, and end early",
        ),
        Kind(
            "reuse_policy",
            ReusePolicy.registry,
            "recap",
            "what runs at each step, and what is reused",
        ),
    )
}
# Choices that are no methods: they have no options of their own.
_NAMES: dict[str, Mapping[str, object]] = {"mask_schedule": MASK_SCHEDULES}


@dataclass(frozen=True)
class Length:
    """How many steps there are, and how many tokens each reveals."""

    steps: int = option(12, "passes over the grid, each of which reveals some tokens", 1, MAX_STEPS)
    mask_schedule: str = option("arccos", "how many tokens stay masked after a step")
    mask_shares: tuple[float, ...] | None = option(
        None, "the share still masked after each step, listed, in place of a mask_schedule"
    )

    def __post_init__(self) -> None:
        look_up("mask_schedule", MASK_SCHEDULES, self.mask_schedule)
        if self.mask_shares is not None:
            if not 1 <= (count := len(self.mask_shares)) <= MAX_STEPS:
                raise RequestError(
                    f"mask_shares lists {count} shares; give 1 to {MAX_STEPS}", "mask_shares"
                )
            listed_schedule(self.mask_shares)


@dataclass(frozen=True)
class Values:
    """How values are drawn."""

    temperature: float = option(1.0, "divides the logits of values; 0 takes the likeliest", 0, 10)
    temperature_last: float | None = option(
        None, "the temperature that the last step is led to; unset: the same at all", _COLDEST, 10
    )
    temperature_warmup: int = option(
        0, "how many first steps draw values at twice the temperature", 0, MAX_STEPS
    )

    def __post_init__(self) -> None:
        if self.temperature_last is not None and self.temperature < _COLDEST:
            raise RequestError(
                f"temperature is {self.temperature}; to be led to temperature_last it must be "
                f"{_COLDEST} at least",
                "temperature",
            )


@dataclass(frozen=True)
class Scale:
    """How strong guidance is."""

    guidance_scale: float = option(1.0, "s in u + s (c - u); 1 is off and costs one pass", 0, 30)


@dataclass(frozen=True)
class PlanOptions:
    """A checked choice of methods, each with its own options; make one with ``plan_options``."""

    length: Length
    values: Values
    scale: Scale
    scheduler: Scheduler
    guidance: Guidance
    count_rule: CountRule
    reuse_policy: ReusePolicy
    zigzag: Zigzag
    logit_options: tuple[LogitOption, ...]

    def __post_init__(self) -> None:
        self._check_together()
        if self.values.temperature_warmup > self.steps:
            raise RequestError(
                f"temperature_warmup is {self.values.temperature_warmup}, but there are only "
                f"{self.steps} steps: give that many at most",
                "temperature_warmup",
            )

    def _check_together(self) -> None:
        """RequestError for what cannot live with revealing in a fixed order, or with reuse."""
        scheduler, policy = self.scheduler, self.reuse_policy
        counts, zigzag = not self.count_rule.follows_plan, self.zigzag.zigzag
        if scheduler.remasks:
            why = (
                f"scheduler {scheduler.name!r} takes revealed tokens back; choose one that does "
                "not, such as halton or confidence"
            )
            _refuse(why, count_rule=counts, zigzag=zigzag)
        if policy.fixes_positions:
            why = "reuse fixes positions ahead"
            looks_back = any(method.on and method.looks_back for method in self.logit_options)
            _refuse(why, count_rule=counts, zigzag=zigzag, differential=looks_back)
            why = (
                f"scheduler {scheduler.name!r} keeps how sure each reveal was, and local steps "
                "do not tell it; choose another"
            )
            _refuse(why, reuse=scheduler.keeps_reveals)
        if policy.active:
            why = f"reuse_policy {policy.name!r} reuses what the step before left"
            _refuse(why, zigzag=zigzag)
        if not self.count_rule.follows_plan and self.zigzag.zigzag:
            raise RequestError("zigzag: choose it or a count_rule, not both", "zigzag")
        if policy.needs_guidance and self.scale.guidance_scale == 1:
            raise RequestError(
                f"reuse_policy {policy.name!r} carries null passes over, but guidance_scale is 1, "
                "which has none; give another scale",
                "reuse_policy",
            )

    @property
    def steps(self) -> int:
        """How many steps there are, before any rule ends them early."""
        return self.length.steps

    @property
    def unguided(self) -> "PlanOptions":
        """The same with guidance off, and without a reuse policy that lives on it."""
        reuse = REUSE_POLICIES["none"]() if self.reuse_policy.needs_guidance else self.reuse_policy
        return replace(self, scale=Scale(guidance_scale=1.0), reuse_policy=reuse)

    def flat(self) -> dict[str, Any]:
        """The options that act, by their public names: what a request must say to get the same."""
        parts: list[object] = [self.length, self.values, self.scale]
        flat: dict[str, Any] = {}
        for part in parts:
            flat |= _fields(part)
        if self.length.mask_shares is not None:
            del flat["mask_schedule"]
        for param in KINDS:
            if param == "guidance" and self.scale.guidance_scale == 1:
                continue  # it is off, whatever its kind
            flat |= _flat_method(param, getattr(self, param))
        flat |= _fields(self.zigzag)
        for logit_option in self.logit_options:
            flat |= _fields(logit_option)
        return flat

    def __getitem__(self, name: str) -> Any:
        """The value of an option that acts; KeyError for one that does not."""
        return self.flat()[name]


@dataclass(frozen=True)
class FlatOption:
    """An option under its public name."""

    name: str
    type: Any
    default: Any  # None where methods that share the name differ in it
    meaning: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]  # of a name; empty if it is none
    owners: tuple[str, ...]  # the methods that it does something for; empty: all of them


def plan_options(**given: object) -> PlanOptions:
    """The options of a plan, by their public names; the rest have their defaults.

    RequestError names an option that there is not, a value out of its bounds, and an option that
    does nothing under the methods that are chosen.
    """
    return choose_options(given, {})


def choose_options(given: Mapping[str, object], preset: Mapping[str, object]) -> PlanOptions:
    """``plan_options`` with the values of a preset where none is given; those of a preset that do
    nothing are passed over."""
    known = flat_options()
    given = {name: value for name, value in given.items() if value is not None}
    # A preset may hold what is idle here, but no slip of the pen.
    for name in (*given, *preset):
        if name not in known:
            raise RequestError(f"option {name[:64]!r}: {choices(name[:64], known)}", name[:64])
    values = {name: value for name, value in preset.items() if value is not None} | given
    listed = listed_steps(values)
    if listed is not None:
        values["steps"] = listed
        if given.get("steps", listed) != listed:
            raise RequestError(
                f"steps is {given['steps']}, but mask_shares lists {listed}: leave steps out",
                "steps",
            )
    options = PlanOptions(
        length=_build(Length, values),
        values=_build(Values, values),
        scale=_build(Scale, values),
        **{
            param: _build(_choose(param, values, kind, kind.default), values)
            for param, kind in KINDS.items()
        },
        zigzag=_build(Zigzag, values),
        logit_options=tuple(_build(method, values) for method in LOGIT_OPTIONS.values()),
    )
    # Of what was given nothing may be lost without a word.
    acting = options.flat()
    for name in given:
        if name not in acting:
            raise RequestError(_says_nothing(known[name], options), name)
    return options


def listed_steps(values: Mapping[str, object]) -> int | None:
    """How many steps mask_shares list; None if there are none, or as many as cannot be."""
    shares = values.get("mask_shares")
    if isinstance(shares, list | tuple) and 1 <= len(shares) <= MAX_STEPS:
        return len(shares)
    return None


def flat_options() -> dict[str, FlatOption]:
    """All options by their public names, in the order in which they are told."""
    found: dict[str, FlatOption] = {}
    owners: tuple[type, ...] = (Length, Values, Scale)
    for owner in owners:
        found |= {flat.name: flat for flat in _declared(owner, ())}
    for kind in KINDS.values():
        found[kind.param] = FlatOption(
            kind.param, str, kind.default, kind.meaning, None, None, tuple(kind.methods), ()
        )
        for name, method in kind.methods.items():
            for flat in _declared(method, (f"{kind.param} {name}",)):
                other = found.get(flat.name)
                found[flat.name] = flat if other is None else _joined(other, flat)
    owners = (Zigzag, *LOGIT_OPTIONS.values())
    for owner in owners:
        found |= {flat.name: flat for flat in _declared(owner, ())}
    return found


def _declared(owner: type, owners: tuple[str, ...]) -> Iterator[FlatOption]:
    for name, hint, default, about in declared_options(owner):
        names = list(_NAMES.get(name, {}))
        if about.kind:
            methods = KINDS[about.kind].methods
            names = [other for other, method in methods.items() if method is not owner]
        yield FlatOption(
            name, hint, default, about.meaning, about.low, about.high, tuple(names), owners
        )


def _joined(one: FlatOption, other: FlatOption) -> FlatOption:
    """An option that several methods have."""
    same = (one.type, one.meaning, one.low, one.high)
    assert same == (other.type, other.meaning, other.low, other.high), one.name
    default = one.default if one.default == other.default else None
    return FlatOption(
        one.name,
        one.type,
        default,
        one.meaning,
        one.low,
        one.high,
        one.choices,
        one.owners + other.owners,
    )


def _refuse(why: str, **on: bool) -> None:
    """RequestError for the first of some options that is on."""
    for name, wanted in on.items():
        if wanted:
            raise RequestError(f"{name} cannot be used here: {why}", name)


def _says_nothing(wanted: FlatOption, options: PlanOptions) -> str:
    """Why an option does nothing, and what it belongs to."""
    name = wanted.name
    if name == "mask_schedule":
        return f"{name} does nothing beside mask_shares, which list what it would compute"
    if options.scale.guidance_scale == 1 and (
        name == "guidance" or any(owner.startswith("guidance ") for owner in wanted.owners)
    ):
        return f"{name} does nothing: guidance_scale is 1, which is off; give another scale"
    chosen = {param: getattr(options, param).name for param in KINDS}
    params = {owner.split()[0] for owner in wanted.owners}
    now = ", ".join(f"{param} {chosen[param]!r}" for param in chosen if param in params)
    for param in params:
        if name in (idle := getattr(options, param).idle_options):
            return f"{name} does nothing: {idle[name]}"
    return f"{name} does nothing with {now}; it belongs to {', '.join(wanted.owners)}"


def _choose(param: str, values: Mapping[str, object], kind: Kind[Any], default: str) -> type:
    """The method that the values choose under a public name."""
    name = values.get(param, default)
    if not isinstance(name, str):
        raise RequestError(f"{param}: expected a name, got {str(name)[:80]!r}", param)
    method: type = kind.method(name, param)
    return method


def _build(owner: type, values: Mapping[str, object]) -> Any:
    """The dataclass with those of the values that are its options."""
    arguments: dict[str, object] = {}
    for name, hint, default, about in declared_options(owner):
        if about.kind:
            method = _choose(name, values, KINDS[about.kind], default)
            if method is owner:
                raise RequestError(f"{name}: {values[name]!r} cannot be its own base", name)
            arguments[name] = _build(method, values)
        elif name in values:
            arguments[name] = _within_bounds(name, hint, about, values[name])
    return owner(**arguments)


def _within_bounds(name: str, hint: Any, about: Option, value: object) -> object:
    """The value as its type, within its bounds."""
    typed = checked(name, hint, value)
    for number in typed if isinstance(typed, tuple) else (typed,):
        if about.low is not None and about.high is not None and number is not None:
            check_range(name, number, about.low, about.high)
    return typed


def _fields(part: Any) -> dict[str, Any]:
    owner: type = type(part)
    return {name: getattr(part, name) for name, *_ in declared_options(owner)}


def _flat_method(param: str, method: Method) -> dict[str, Any]:
    flat: dict[str, Any] = {param: method.name}
    for name, value in _fields(method).items():
        if name not in method.idle_options:
            flat |= _flat_method(name, value) if isinstance(value, Method) else {name: value}
    return flat
