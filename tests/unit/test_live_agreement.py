"""Which words are stable: agreement of hypotheses, whatever they are like."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tympan.domain import Word
from tympan.live.agreement import Agreement, spelling

NAMES = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "and", "ran"]), max_size=12)


def timed(names: Sequence[str], from_s: float = 0.0) -> list[Word]:
    """Return words of half a second each."""
    return [Word(f" {name}", from_s + at / 2, from_s + (at + 1) / 2, 0.9) for at, name in enumerate(names)]


def said(agreement: Agreement) -> tuple[list[str], list[str]]:
    """Return stable and other words."""
    names = [word.text.strip() for word in agreement.words]
    return names[: agreement.n_stable], names[agreement.n_stable :]


def test_what_two_hypotheses_agree_on_is_stable() -> None:
    """Common first words become stable; the rest is the newest hypothesis."""
    agreement = Agreement()
    agreement.hear(timed(["the", "cat", "sad"]))
    assert said(agreement) == ([], ["the", "cat", "sad"])
    agreement.hear(timed(["the", "cat", "sat", "on"]))
    assert said(agreement) == (["the", "cat"], ["sat", "on"])
    agreement.hear(timed(["the", "cat", "sat", "on", "a"]))
    assert said(agreement) == (["the", "cat", "sat", "on"], ["a"])


def test_the_last_word_is_never_stable() -> None:
    """The audio may have broken off inside it, so agreement on it says nothing."""
    agreement = Agreement()
    for _ in range(3):
        agreement.hear(timed(["inter"]))
    assert said(agreement) == ([], ["inter"])


def test_case_and_punctuation_do_not_count() -> None:
    """Two spellings of a word agree, and the newer one is shown."""
    agreement = Agreement()
    agreement.hear(timed(["the", "cat."]))
    agreement.hear(timed(["The", "cat,", "sat"]))
    assert said(agreement) == (["The", "cat,"], ["sat"])
    assert spelling(" Don't!") == spelling("dont")
    assert spelling(" - ") == "-"


def test_a_stable_word_outlives_a_hypothesis_that_has_another() -> None:
    """What follows is laid along the stable words; a difference inside them changes nothing."""
    agreement = Agreement()
    agreement.hear(timed(["the", "cat", "sat", "on"]))
    agreement.hear(timed(["the", "cat", "sat", "on", "a"]))
    agreement.hear(timed(["the", "bat", "sat", "on", "a", "mat"]))
    stable, tail = said(agreement)
    assert stable[:4] == ["the", "cat", "sat", "on"]
    assert stable + tail == ["the", "cat", "sat", "on", "a", "mat"]


def test_words_that_a_hypothesis_leaves_out_or_puts_in_do_not_shift_the_rest() -> None:
    """The next word after the stable ones is found although their number differs."""
    agreement = Agreement(timed(["the", "cat", "sat", "on"]))
    agreement.hear(timed(["the", "sat", "on", "a", "mat"]))
    assert said(agreement) == (["the", "cat", "sat", "on"], ["a", "mat"])
    agreement = Agreement(timed(["the", "cat", "sat", "on"]))
    agreement.hear(timed(["the", "cat", "has", "sat", "on", "a", "mat"]))
    assert said(agreement) == (["the", "cat", "sat", "on"], ["a", "mat"])


def test_a_word_said_twice_is_kept_twice() -> None:
    """Times tell a repetition from an overlap."""
    agreement = Agreement(timed(["no", "no"]))
    agreement.hear(timed(["no", "no", "no", "never"]))
    assert said(agreement) == (["no", "no"], ["no", "never"])


def test_a_hypothesis_that_shares_nothing_is_placed_by_its_times() -> None:
    """Without a word in common, whatever lies behind the stable words is new."""
    agreement = Agreement(timed(["one", "two", "three"]))
    agreement.hear(timed(["x", "y", "z", "four", "five"]))
    assert said(agreement) == (["one", "two", "three"], ["four", "five"])


def test_a_hypothesis_may_begin_later_than_the_utterance() -> None:
    """Only the stable words since then are looked for in it."""
    agreement = Agreement(timed(["the", "cat", "sat", "on"]))
    agreement.hear(timed(["sat", "on", "a", "mat"], 1.0), from_s=1.0)
    assert said(agreement) == (["the", "cat", "sat", "on"], ["a", "mat"])


def test_an_empty_hypothesis_empties_the_tail_alone() -> None:
    """Stable words stay."""
    agreement = Agreement(timed(["the"]))
    agreement.hear(timed(["the", "cat"]))
    agreement.hear([])
    assert said(agreement) == (["the"], [])


def test_the_anchor_is_a_stable_word_with_some_overlap() -> None:
    """The next look starts at a stable word that lies far enough before the end of what is stable."""
    agreement = Agreement(timed(["a", "b", "c", "d", "e", "f"]))
    assert agreement.stable_end_s == 3.0
    assert agreement.anchor_s(1.0) == 2.0
    assert agreement.anchor_s(9.0) is None
    assert Agreement().anchor_s(0.0) is None


def test_what_lies_behind_a_cut_belongs_to_the_next_utterance() -> None:
    """Stable words stay stable, others stay others."""
    agreement = Agreement(timed(["a", "b", "c"]))
    agreement.hear(timed(["a", "b", "c", "d"]))
    assert said(agreement.after(1.0)) == (["c"], ["d"])
    assert said(agreement.after(9.0)) == ([], [])


@given(st.lists(NAMES, max_size=12))
def test_stable_words_never_change(hypotheses: list[list[str]]) -> None:
    """Whatever the hypotheses are, what was stable once is how every later text begins."""
    agreement = Agreement()
    for names in hypotheses:
        before = agreement.words[: agreement.n_stable]
        agreement.hear(timed(names))
        assert agreement.words[: len(before)] == before
        assert agreement.n_stable >= len(before)


@given(NAMES, st.lists(st.integers(0, 12), max_size=12))
def test_growing_prefixes_of_a_text_give_the_text(names: list[str], lengths: list[int]) -> None:
    """With hypotheses that are right but for their last word, the stable words are right, and none is doubled."""
    agreement = Agreement()
    for length in sorted(lengths):
        right = names[:length]
        agreement.hear(timed([*right[:-1], "broken"] if right else []))
        stable, _ = said(agreement)
        assert stable == names[: len(stable)]
    agreement.hear(timed(names))
    stable, tail = said(agreement)
    assert stable + tail == names


@given(st.lists(st.sampled_from("abcdefghijklmnop"), min_size=6, max_size=14, unique=True), st.integers(2, 5))
def test_windows_that_slide_give_the_same_text_as_windows_that_grow(names: list[str], back: int) -> None:
    """A hypothesis of the last words alone adds the same as one of all words."""
    grown, slid = Agreement(), Agreement()
    for end in range(1, len(names) + 1):
        grown.hear(timed(names[:end]))
        first = max(0, end - back - 2)
        slid.hear(timed(names[first:end], first / 2), first / 2)
        assert said(slid) == said(grown)
