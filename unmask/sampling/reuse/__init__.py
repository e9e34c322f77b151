"""Reuse policies: what runs at each step. A new one is a file here and a line below."""

from unmask.sampling.planned import ReusePolicy as ReusePolicy
from unmask.sampling.reuse.carried_null import CarriedNull as CarriedNull
from unmask.sampling.reuse.everything import Everything as Everything
from unmask.sampling.reuse.recap import Recap as Recap

# From the public name to the class: a class that gives itself a name enters it.
REUSE_POLICIES = ReusePolicy.registry
