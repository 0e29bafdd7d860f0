"""The only way out: every address is checked, and only a checked address is connected to."""

from tympan.egress.addresses import EgressRules
from tympan.egress.client import DownloadLimits, Egress, PostLimits
from tympan.egress.heads import Answer
from tympan.egress.resolver import LookupFailed, Resolver, SystemResolver
from tympan.egress.urls import Address

__all__ = [
    "Address",
    "Answer",
    "DownloadLimits",
    "Egress",
    "EgressRules",
    "LookupFailed",
    "PostLimits",
    "Resolver",
    "SystemResolver",
]
