"""Schedulers: which positions are revealed at a step. A new one is a file here and a line below."""

from unmask.sampling.scheduler import Scheduler as Scheduler
from unmask.sampling.schedulers.confidence import Confidence as Confidence
from unmask.sampling.schedulers.entropy import Entropy as Entropy
from unmask.sampling.schedulers.halton import Halton as Halton
from unmask.sampling.schedulers.margin import Margin as Margin
from unmask.sampling.schedulers.p2 import SelfPlanning as SelfPlanning
from unmask.sampling.schedulers.random import Random as Random
from unmask.sampling.schedulers.remdm import Remdm as Remdm
from unmask.sampling.schedulers.uncage import Uncage as Uncage

# From the public name to the class: a class that gives itself a name enters it.
SCHEDULERS = Scheduler.registry
