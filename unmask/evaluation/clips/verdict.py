"""Whether a clip shows what its prompt asks for, and how it fails.

Objects are held to their number, as in counting, and to their colours; and each to what it does.
What spins is known by its first and last frame
alone, in which it is upright, and what passes by or is passed also where the judge, who has not met
one object before another, takes it for broken.
"""

from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from unmask.evaluation.clips.motions import CHECKS, LEAST, goes, rests
from unmask.evaluation.clips.prompts import Actor, ClipPrompt
from unmask.evaluation.clips.tracks import Track, link
from unmask.evaluation.verdict import Verdict, relation_holds
from unmask.scenes.judge import Sight

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
HIDDEN = 0.5  # of the sides of two objects: nearer than this, one hides the other
_POSITIONS = {"left of": "to the left of", "above": "above"}


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
        tracks = ends if actors[0].motion == "spins" else everywhere
        least = 1 if prompt.category == "passing" else BRIEFLY
        mine = sorted(
            (track for track in tracks if track.noun == noun and len(track.clear) >= least),
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
    changing = prompt.category == "passing" or actor.motion.startswith("fades")
    kept = MOSTLY if changing else KEPT
    if track.share(actor.noun) < kept:
        tags.add("identity change")
    if actor.colour is not None:
        share = track.colour_share(actor.colour)
        if share < kept:
            tags.add("wrong colour" if share < 1 - KEPT else "identity change")
    if track.jumped:
        tags.add("jump")
    if prompt.category == "passing":
        # A caption of these tells no speed, and neither is seen whole throughout.
        if actor.motion == "still":
            wrong = None if rests(Track(track.clear)) else "wrong motion"
        else:
            wrong = goes(0, -1 if actor.motion == "moves left" else 1, seen=False)(
                track, frames, None
            )
    else:
        wrong = CHECKS[actor.motion](track, frames, actor.speed)
    return tags | ({wrong} if wrong else set())


def _stand(position: str, tracks: Sequence[Track]) -> bool:
    first, second = (track.whole[0].found for track in tracks)
    return relation_holds(_POSITIONS[position], first, second)


def _passes(behind: Track, front: Track) -> bool:
    """Whether the second goes from one side of the first to the other, across and in front of it:
    where both would be, it is what is seen."""
    at, level, side = behind.box
    ends = front.seen[0].found, front.seen[-1].found
    crosses = (ends[0].x - at) * (ends[1].x - at) < 0 and abs(ends[1].x - ends[0].x) >= LEAST
    reach = HIDDEN * (side + front.box[2]) / 2
    meeting = {seen.frame for seen in front.seen if abs(seen.found.x - at) < reach}
    meets = abs(front.box[1] - level) < reach * 2
    shown = sum(seen.frame in meeting for seen in behind.seen)
    return crosses and meets and shown <= len(meeting) / 2
