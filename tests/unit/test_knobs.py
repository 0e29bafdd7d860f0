"""Knobs of engines: read, and refused with the cause and what would be right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tympan.engine.base import EngineSpec
from tympan.engine.knobs import Knobs
from tympan.engine.splice import MARGIN_S, Splice
from tympan.errors import ConfigError

KNOWN = "splice margin_s replicas languages"


def knobs(**said: str) -> Knobs:
    """Return the knobs of an engine that knows ``KNOWN``."""
    return Knobs(EngineSpec("ct2", "base", options=tuple(said.items())), KNOWN)


def test_what_is_said_is_read() -> None:
    """As a word, a number, or seconds."""
    said = knobs(splice="off", margin_s="1.5", replicas="2", languages="de,fr")
    assert Splice.of(said) == Splice(margin_s=1.5, enabled=False)
    assert (said.count("replicas"), said.text("languages")) == (2, "de,fr")


def test_what_is_not_said_is_as_ever() -> None:
    """Each knob has a default."""
    said = knobs()
    assert Splice.of(said) == Splice(margin_s=MARGIN_S, enabled=True)
    assert (said.count("replicas"), said.text("languages"), said.choice("beams", "kept", "drawn")) == (None, "", "kept")


def test_a_knob_that_nobody_knows_is_named_with_those_there_are() -> None:
    """A typing error is found at the start, not by a slow server."""
    with pytest.raises(ConfigError, match="ct2 has no option 'marginS'") as caught:
        knobs(marginS="1")
    assert KNOWN in (caught.value.remedy or "")
    assert caught.value.param == "engine_options"


@pytest.mark.parametrize("said", ["", "ON", "yes", "1"])
def test_a_word_that_is_none_of_the_choices_is_refused(said: str) -> None:
    """With the choices."""
    with pytest.raises(ConfigError, match=r"splice of the engine ct2 cannot be") as caught:
        Splice.of(knobs(splice=said))
    assert "on, off" in (caught.value.remedy or "")


@pytest.mark.parametrize("said", ["", "0", "-1", "1.5", "two", "99999", "²"])
def test_a_count_is_a_whole_number_with_a_limit(said: str) -> None:
    """Nothing else is taken for one."""
    with pytest.raises(ConfigError, match="replicas"):
        knobs(replicas=said).count("replicas")


@given(st.floats(0.0, 30.0))
def test_seconds_are_read(said: float) -> None:
    """However they are written."""
    assert Splice.of(knobs(margin_s=repr(said))).margin_s == said


@given(st.text(st.characters(exclude_categories=["Nd"])) | st.sampled_from(["-0.1", "30.1", "1e3", "1 2"]))
def test_what_is_no_number_or_makes_no_sense_is_refused(said: str) -> None:
    """With the limits; `nan` and `inf` are no seconds either."""
    with pytest.raises(ConfigError) as caught:
        Splice.of(knobs(margin_s=said))
    assert "from 0 to 30" in (caught.value.remedy or "")
