"""How subtitles are to be cut: fields of a form or a query, named as the command line of openai-whisper has them."""

from tympan.api.fields.forms import Form, Parameter
from tympan.domain import Shape
from tympan.errors import InvalidRequest

SUBTITLES = ("srt", "vtt")
"""The formats that a shape is for."""

MAX_COLUMNS, MAX_LINES, MAX_CUE_S = 1_000, 10, 60.0
_DEFAULT = Shape()


def _number(kind: str, low: float, high: float, default: float | None = None) -> dict[str, object]:
    limits = {"type": kind, "minimum": low, "maximum": high}
    return limits if default is None else {**limits, "default": default}


SHAPE_PARAMETERS = (
    Parameter(
        "max_line_width",
        _number("integer", 4, MAX_COLUMNS, _DEFAULT.max_line_width),
        "For `srt` and `vtt`: cut cues into lines of so many columns. Any of these six fields turns the others on.",
        ours=True,
    ),
    Parameter(
        "max_line_count",
        _number("integer", 1, MAX_LINES, _DEFAULT.max_line_count),
        "Lines of a cue; 1 with `max_words_per_line`.",
        ours=True,
    ),
    Parameter("max_words_per_line", _number("integer", 1, 100), "Words of a line.", ours=True),
    Parameter(
        "min_cue_s",
        _number("number", 0, MAX_CUE_S, _DEFAULT.min_cue_s),
        "Seconds that a cue is shown, where the next leaves room.",
        ours=True,
    ),
    Parameter("max_cue_s", _number("number", 0.5, MAX_CUE_S, _DEFAULT.max_cue_s), "Longest cue.", ours=True),
    Parameter(
        "max_chars_per_s",
        _number("number", 1, 1_000, _DEFAULT.max_chars_per_s),
        "Reading speed: a cue is shown longer for it, where the next leaves room.",
        ours=True,
    ),
)
"""The fields about subtitles."""

SHAPE_NAMES = tuple(parameter.name for parameter in SHAPE_PARAMETERS)


def shape_of(form: Form) -> Shape | None:
    """Return how subtitles are to be cut, ``None`` when no field says. Raises ``InvalidRequest``."""
    if not any(form.all(name) for name in SHAPE_NAMES):
        return None
    words = form.integer("max_words_per_line", 1, 100)
    shortest = form.number("min_cue_s", 0, MAX_CUE_S)
    shape = Shape(
        max_line_width=form.integer("max_line_width", 4, MAX_COLUMNS) or _DEFAULT.max_line_width,
        max_line_count=form.integer("max_line_count", 1, MAX_LINES) or (1 if words else _DEFAULT.max_line_count),
        max_words_per_line=words,
        min_cue_s=_DEFAULT.min_cue_s if shortest is None else shortest,
        max_cue_s=form.number("max_cue_s", 0.5, MAX_CUE_S) or _DEFAULT.max_cue_s,
        max_chars_per_s=form.number("max_chars_per_s", 1, 1_000) or _DEFAULT.max_chars_per_s,
    )
    if shape.min_cue_s > shape.max_cue_s:
        raise InvalidRequest("min_cue_s is more than max_cue_s.", param="min_cue_s", remedy="Lower min_cue_s.")
    return shape


def refuse_shape(form: Form, fmt: str) -> None:
    """Raise ``InvalidRequest`` when ``form`` says how to cut subtitles, since ``fmt`` has none."""
    for name in SHAPE_NAMES:
        if form.all(name):
            raise InvalidRequest(
                f"{name} is for srt and vtt, not {fmt}.", param=name, remedy=f"Ask for srt or vtt, or leave {name} out."
            )
