"""The last profile of a machine as it is kept: a small JSON document, with what it holds for and no tenant in it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tympan.capacity.profile import Profile, as_json, from_json

KEY = "capacity/profile.json"
"""Where it lies below the data folder, and in a cluster in the object storage."""


def kept_path(data_dir: Path) -> Path:
    """Return where the last profile is kept on this machine."""
    return data_dir / KEY


def kept_text(profile: Profile, about: Mapping[str, Any]) -> str:
    """Return the document; ``about`` says for which settings and software the profile holds."""
    return json.dumps({"about": dict(about), "profile": as_json(profile)}, indent=1) + "\n"


def known(text: str | bytes, about: Mapping[str, Any] | None = None) -> Profile | None:
    """Return the profile in a document, if it holds for ``about``; ``None`` for another one, and what is no JSON.

    Raises ``InvalidRequest`` for a profile that is damaged, or one of another version.
    """
    try:
        document = json.loads(text)
    except ValueError:
        return None
    if not isinstance(document, dict) or (about is not None and document.get("about") != dict(about)):
        return None
    profile = document.get("profile")
    return from_json(profile if isinstance(profile, dict) else {})
