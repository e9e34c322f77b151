"""Whether a clip shows what its prompt asks for, and how it fails.

Objects are held to their number, as in counting, and to their colours; and each to what it does.
What spins is known by its first and last frame
alone, in which it is upright, and what passes by or is passed also where the judge, who has not met
one object before another, takes it for broken.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from unmask.evaluation.clips.motions import CHECKS, LEAST, begins
from unmask.evaluation.clips.prompts import Actor, ClipPrompt
from unmask.evaluation.clips.tracks import Track, link
from unmask.evaluation.verdict import Verdict
from unmask.scenes.judge import Sight
from unmask.scenes.wanted import OVERLAP

OBJECT_TAGS = ("missing", "extra", "identity change", "wrong colour", "wrong place")
MOTION_TAGS = (
    "frozen",
    "jump",
    "vanish",
    "wrong direction",
    "wrong speed",
    "wrong end",
    "wrong motion",
)
TAGS = (*OBJECT_TAGS, *MOTION_TAGS)
LASTS = 3  # frames in which something else must be an object to be one too many
BRIEFLY = 2  # frames in which something asked for must be: it may come at the very end
KEPT = 0.8  # part of the frames in which an object must be what it is, in its colour
MOSTLY = 0.5  # ... if another one hides it for a while, or the background shows through
BLURRED = 10.0  # pixels by which the place of what hides another or is hidden may be missed
COVERED = 6.0  # pixels between the levels of two objects, of which one then hides the other
HIDDEN = 0.5  # of the sides of two objects: nearer than this, one hides the other
_FAINT = ("fades in", "fades out", "appears", "disappears")


def judge_clip(prompt: ClipPrompt, sights: Sequence[Sight], frames: Tensor) -> Verdict:
    """The verdict on ``frames`` (frames, 3, height, width) in [0, 1], of which there is a sight
    each. Any tag makes it wrong:

    missing: fewer objects of a noun than asked, throughout. extra: another whole object. identity
    change: an object is another one for a while, or changes colour. wrong place: they do not stand
    as asked. frozen: nothing happens. jump: an object is elsewhere in the next frame. vanish: it is
    not whole where it should be. wrong end: it comes where it should go, or grows where it should
    shrink. wrong motion: anything else.
    """
    everywhere, ends = link(sights), link(sights, (0, len(sights) - 1))
    spins = any(actor.motion == "spins" for actor in prompt.actors)
    chosen: list[Track] = []
    tags: set[str] = set()
    for noun in dict.fromkeys(actor.noun for actor in prompt.actors):
        actors = [actor for actor in prompt.actors if actor.noun == noun]
        motion = actors[0].motion  # those of a noun do the same
        tracks = ends if motion == "spins" else everywhere
        mine = sorted(
            (
                track
                for track in tracks
                if track.noun == noun and _is_there(prompt, actors[0].motion, track)
            ),
            key=lambda track: -len(track.seen),
        )[: len(actors)]
        if len(mine) < len(actors):
            changed = any(0 < track.share(noun) < KEPT for track in tracks)
            tags.add("identity change" if changed else "missing")
        for actor, track in zip(actors, mine, strict=False):
            tags |= _wrong(prompt, actor, track, frames)
        chosen += mine
    # What spins may be taken for something else before it is upright again.
    lasting = [
        track.noun
        for track in (ends if spins else everywhere)
        if len(track.clear) >= (BRIEFLY if spins else LASTS)
    ]
    if Counter(lasting) - Counter(actor.noun for actor in prompt.actors):
        tags.add("extra")
    if len(chosen) == len(prompt.actors) == 2:
        if prompt.position and not _stand(prompt.position, chosen):
            tags.add("wrong place")
        if prompt.category == "passing" and not tags and not _passes(chosen[0], chosen[1]):
            tags.add("wrong motion")
    background = None
    if prompt.background is not None:
        right = sum(sight.background == prompt.background for sight in sights)
        background = right >= KEPT * len(sights)
    return Verdict(not tags, tuple(tag for tag in TAGS if tag in tags), background)


def _wrong(prompt: ClipPrompt, actor: Actor, track: Track, frames: Tensor) -> set[str]:
    """What is wrong with one object."""
    tags = set()
    kept = MOSTLY if prompt.category == "passing" or actor.motion in _FAINT else KEPT
    if track.clear and track.share(actor.noun) < kept:
        tags.add("identity change")
    if track.clear and actor.colour is not None:
        share = track.colour_share(actor.colour)
        if share < kept:
            tags.add("wrong colour" if share < 1 - KEPT else "identity change")
    if track.jumped:
        tags.add("jump")
    if prompt.category == "passing":
        wrong = _went(track, actor.motion)
    else:
        wrong = CHECKS[actor.motion](track, frames, actor.speed)
        if wrong is None and actor.way is not None and not begins(track, actor.way):
            wrong = "wrong direction"
    return tags | ({wrong} if wrong else set())


def _is_there(prompt: ClipPrompt, motion: str, track: Track) -> bool:
    """Whether a track is an object of that motion in enough frames, even if it comes at the very
    end; where one hides another, it need only be whole among others."""
    if prompt.category == "passing":
        return len(track.whole) >= BRIEFLY
    return len(track.clear) >= (1 if motion in _FAINT else BRIEFLY)


def _went(track: Track, motion: str) -> str | None:
    """What is wrong with an object that passes by or is passed. Where they meet, the judge is
    unsure of their places too, and a caption of these tells no speed."""
    x, y, _ = track.series(whole=False)
    sign = {"still": 0, "moves left": -1, "moves right": 1}[motion]
    way = sign * (x[-1] - x[0])
    if abs(y[-1] - y[0]) > BLURRED or (not sign and abs(x[-1] - x[0]) > BLURRED):
        return "wrong motion"
    if sign and abs(way) < LEAST:
        return "frozen"
    if way < 0:
        return "wrong direction"
    back = max((sign * (earlier - later) for earlier, later in pairwise(x)), default=0.0)
    return "wrong motion" if back > BLURRED else None


def _stand(position: str, tracks: Sequence[Track]) -> bool:
    """Whether the first is left of the second, or above it, wherever else: each has half of the
    picture to move in, so they may stand far askew."""
    first, second = (track.box for track in tracks)
    axis = 0 if position == "left of" else 1
    return second[axis] - first[axis] > OVERLAP * (first[2] + second[2])


def _passes(behind: Track, front: Track) -> bool:
    """Whether the second goes from one side of the first to the other, across and in front of it:
    where it covers most of it, it is what is seen."""
    at, level, side = behind.box
    first, last = front.seen[0].found, front.seen[-1].found
    crosses = (first.x - at) * (last.x - at) < 0 and abs(last.x - first.x) >= LEAST
    reach = HIDDEN * (side + front.box[2]) / 2
    apart = abs(front.box[1] - level)
    meeting = {seen.frame for seen in front.seen if abs(seen.found.x - at) < reach}
    shown = sum(seen.frame in meeting for seen in behind.seen)
    return crosses and apart < 2 * reach and (apart > COVERED or shown <= len(meeting) / 2)
