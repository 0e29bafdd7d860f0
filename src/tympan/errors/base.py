"""The root of every error of ours."""

from typing import ClassVar


class TympanError(Exception):
    """Something went wrong inside Tympan."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        remedy: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Describe one failure.

        ``param`` names the request field at fault, ``remedy`` says what the caller can do, ``retry_after_s`` is when
        the same call is worth repeating.
        """
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.param = param
        self.remedy = remedy
        self.retry_after_s = retry_after_s
        super().__init__(self.message)

    def __str__(self) -> str:
        """Return the cause, and the remedy when there is one."""
        return f"{self.message} {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Keep every field when the error crosses a process boundary."""
        return (_rebuild, (type(self), self.message, self.param, self.remedy, self.retry_after_s))


def _rebuild(
    cls: type[TympanError], message: str, param: str | None, remedy: str | None, retry_after_s: float | None
) -> TympanError:
    return cls(message, param=param, remedy=remedy, retry_after_s=retry_after_s)
