"""Which output formats pay for times."""

from tympan.cli.outputs import Format


def test_only_formats_that_show_times_ask_for_them() -> None:
    """Plain text and plain JSON spare the engine the alignment; the rest need it."""
    assert {fmt for fmt in Format if not fmt.needs_times} == {Format.TXT, Format.JSON}
