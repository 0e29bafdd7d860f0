"""The rules of the alerts as Prometheus reads them, and with their times made short for tests."""

import re
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.deploy.files import DEPLOY

PATH = DEPLOY / "prometheus" / "alerts.yml"
_RANGE = re.compile(r"\[\d+[mh]\]")


def rules() -> dict[str, dict[str, Any]]:
    """Return every rule by the name of its alert."""
    (group,) = yaml.safe_load(PATH.read_text("utf-8"))["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def hurried(window_s: int = 8) -> str:
    """Return the rules with every range of time cut to ``window_s`` and no waiting before an alert fires.

    What is compared with what, and the bounds, stay as they are.
    """
    text = _RANGE.sub(f"[{window_s}s]", PATH.read_text("utf-8"))
    return re.sub(r"^ +for: \w+\n", "", text, flags=re.MULTILINE)
