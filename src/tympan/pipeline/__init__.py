"""What happens to a request's audio, in order: decode, find speech, pack, batch and infer, assemble."""

from tympan.pipeline.checks import check_options
from tympan.pipeline.decoding import MAX_IN_FLIGHT
from tympan.pipeline.request import Audience, Call, RequestContext
from tympan.pipeline.transcriber import Transcriber

__all__ = ["MAX_IN_FLIGHT", "Audience", "Call", "RequestContext", "Transcriber", "check_options"]
