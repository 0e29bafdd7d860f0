"""Who may do what, and how much of it: what is refused to callers because of who they are."""

from tympan.errors.base import TympanError


class Unauthenticated(TympanError):
    """No valid API key came with the request."""

    code = "invalid_api_key"


class InsufficientScope(TympanError):
    """The API key does not allow this."""

    code = "insufficient_scope"


class ForeignOrigin(TympanError):
    """Web pages from this site may not use this server."""

    code = "foreign_origin"


class RateLimited(TympanError):
    """This exceeds your limit."""

    code = "rate_limit_exceeded"
    retryable = True


class TooManyFailures(RateLimited):
    """Too many requests with a bad API key have come from this address."""

    code = "too_many_failures"


class QuotaExceeded(RateLimited):
    """Your quota is used up."""

    code = "insufficient_quota"
