"""``tympan rollout``: try a new model on a share of the calls, see whether it is worse, keep it or take it back."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tympan.cli import quality_views as views
from tympan.cli.arguments import command
from tympan.cli.console import ExitCode, escaped, say, write_stdout
from tympan.cli.models import ListArgs
from tympan.cli.services import load_settings

if TYPE_CHECKING:
    from tympan.bootstrap.rollouts import Judgement, Rollout

_WHOLE = 100.0
_PERCENT = "Per cent of the calls that name no model."


@dataclass(frozen=True, slots=True)
class StartArgs:
    """Which model is tried."""

    model: Annotated[str, typer.Argument(metavar="MODEL", help="One of MODELS, by any of its names.")]
    share: Annotated[float, typer.Option(metavar="PERCENT", min=0, max=100, help=_PERCENT)] = 5.0


@dataclass(frozen=True, slots=True)
class ShareArgs:
    """How much it answers from now on."""

    share: Annotated[float, typer.Argument(metavar="PERCENT", min=0, max=100, help=_PERCENT)]


@dataclass(frozen=True, slots=True)
class PromoteArgs:
    """Whether the verdict counts."""

    anyway: Annotated[
        bool, typer.Option("--anyway", help="Promote it even when it is worse or not yet known to be as good.")
    ] = False


@dataclass(frozen=True, slots=True)
class RollbackArgs:
    """Nothing has to be said."""


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(
        no_args_is_help=True, help="Try a new model on a share of the calls, then keep it or roll it back."
    )
    command(group, "start")(start)
    command(group, "status")(status)
    command(group, "share")(share)
    command(group, "promote")(promote)
    command(group, "rollback")(rollback)
    command(group, "list")(list_rollouts)
    app.add_typer(group, name="rollout")


def start(args: StartArgs) -> int:
    """Let a model answer a share of the calls that name none; golden sets are measured with it at once.

    Running servers follow within 5 seconds. The model answers only while it is loaded.
    """
    from tympan.bootstrap.rollouts import open_rollouts  # noqa: PLC0415  (imports the database)

    with open_rollouts(load_settings({})) as found:
        rollout, measured = found.start(args.model, args.share / _WHOLE)
        say(f"{rollout.candidate} answers {args.share:g} % in place of {rollout.incumbent} from now on.")
        say(f"Measured with it: {', '.join(measured)}." if measured else "There is no golden set to measure it with.")
        if not found.has_workers:
            say("No server has been seen; what is decided here holds once one runs.")
    return ExitCode.OK


def status(args: ListArgs) -> int:
    """Compare the model on trial with the default. The exit code is 1 when it is worse."""
    from tympan.bootstrap.rollouts import open_rollouts  # noqa: PLC0415

    with open_rollouts(load_settings({})) as found:
        judgement = found.desk.current()
    if args.as_json:
        write_stdout(json.dumps(_as_json(judgement), indent=2))
    else:
        _show(judgement)
    return ExitCode.SOME_FAILED if judgement.verdict == "worse" else ExitCode.OK


def share(args: ShareArgs) -> int:
    """Change the share of calls that the model on trial answers."""
    from tympan.bootstrap.rollouts import open_rollouts  # noqa: PLC0415

    with open_rollouts(load_settings({})) as found:
        rollout = found.change_share(args.share / _WHOLE)
    say(f"{rollout.candidate} answers {args.share:g} % from now on.")
    return ExitCode.OK


def promote(args: PromoteArgs) -> int:
    """Make the model on trial the default. Refused unless it is known to be no worse.

    It stays the default after restarts, whatever MODEL says, until it is rolled back.
    """
    from tympan.bootstrap.rollouts import open_rollouts  # noqa: PLC0415

    with open_rollouts(load_settings({})) as found:
        rollout = found.promote(anyway=args.anyway)
    say(f"{rollout.candidate} is the default from now on. `tympan rollout rollback` undoes that.")
    return ExitCode.OK


def rollback(args: RollbackArgs) -> int:  # noqa: ARG001  (every command has arguments)
    """End the running rollout; when none is running, undo the last promotion."""
    from tympan.bootstrap.rollouts import open_rollouts  # noqa: PLC0415

    with open_rollouts(load_settings({})) as found:
        rollout = found.roll_back()
        default = found.default
    say(f"{rollout.candidate} now answers only calls that name it. The default is {default}.")
    return ExitCode.OK


def list_rollouts(args: ListArgs) -> int:
    """List what was tried, the newest first."""
    from tympan.bootstrap.rollouts import open_rollouts  # noqa: PLC0415

    with open_rollouts(load_settings({})) as found:
        rollouts = found.desk.store.listing()
    if args.as_json:
        write_stdout(json.dumps([asdict(each) for each in rollouts], indent=2))
    else:
        _list(rollouts)
    return ExitCode.OK


def _list(rollouts: "Sequence[Rollout]") -> None:
    table = views.new_table("rollout", "candidate", "in place of", ">share", "began (UTC)", "state", "ended (UTC)")
    for each in rollouts:
        table.add_row(
            each.id, escaped(each.candidate), escaped(each.incumbent), f"{each.share:.1%}", views.moment(each.began_at),
            each.state.replace("_", " "), "" if each.ended_at is None else views.moment(each.ended_at),
        )  # fmt: skip
    views.show_table(table)
    if not rollouts:
        say("Nothing was tried yet.")


def _as_json(found: "Judgement") -> dict[str, Any]:
    return {
        "rollout": asdict(found.rollout),
        "transcripts": {"candidate": found.candidates, "incumbent": found.incumbents},
        "verdict": found.verdict.replace(" ", "_"),
        "reasons": found.reasons,
        "missing": found.missing,
        "traffic": [
            {"kind": each.kind, "feature": each.feature.name, **asdict(each.drift), "differs": each.differs}
            | {"candidate": each.candidate, "incumbent": each.incumbent}
            for each in found.contrasts
        ],
        "golden_sets": [
            {"golden_set": each.set_name, "comparison": each.comparison.as_dict() if each.comparison else None}
            for each in found.sets
        ],
    }


def _show(found: "Judgement") -> None:
    from tympan.quality.drift_test import MIN_WINDOW  # noqa: PLC0415  (loads numpy)

    rollout = found.rollout
    say(
        f"{rollout.candidate} in place of {rollout.incumbent} for {rollout.share:.1%} since "
        f"{views.moment(rollout.began_at)} UTC: {found.candidates:,} transcripts beside {found.incumbents:,}."
    )
    table = views.new_table("golden set", ">word errors", "99 %", ">newly from nothing", "")
    for each in found.sets:
        table.add_row(each.set_name, *_set_cells(each.comparison))
    if found.sets:
        views.show_table(table)
    traffic = views.new_table("kind", "feature", ">PSI", ">by chance", ">p", "")
    told = [each for each in found.contrasts if not each.drift.reason]
    for contrast in told:
        test = contrast.drift
        figures = (f"{test.psi:.3f}", f"{test.chance_psi:.3f}", f"{test.p:.1e}")
        traffic.add_row(contrast.kind, contrast.feature.title, *figures, _word(contrast))
    if told:
        views.show_table(traffic)
    else:
        say(f"Traffic is compared from {MIN_WINDOW} transcripts of each on; a minute may pass until one is counted.")
    say(f"{rollout.candidate} is {found.verdict}." if found.verdict != "not known" else "Not known yet.")
    for reason in found.reasons:
        say(f"  {reason}")
    for missing in found.missing if found.verdict == "not known" else ():
        say(f"  missing: {missing}")


def _set_cells(found: Any) -> tuple[str, str, str, str]:
    if found is None:
        return "", "", "", "not measured yet"
    points = ("", "")
    if found.difference_points is not None:
        points = (f"{found.difference_points:+.1f}", f"{found.low_points:+.1f} to {found.high_points:+.1f}")
    newly = f"{found.newly}/{found.silent}" if found.silent else ""
    return *points, newly, "worse" if found.worse_words or found.worse_silence else ""


def _word(contrast: Any) -> str:
    if contrast.is_worse:
        return "worse"
    if contrast.is_unfair:
        return "differs, though it is of the audio: the calls were not divided evenly"
    return "differs" if contrast.differs else ""
