"""What was asked of this installation lately, for the command line; a server may be running on the same stores."""

from tympan.bootstrap.jobs import open_audio, open_stores
from tympan.bootstrap.pipeline import make_data_dir
from tympan.bootstrap.planning import seen_in
from tympan.capacity.demand import Seen
from tympan.capacity.kept import KEY
from tympan.config import Settings


def seen(settings: Settings, days: int) -> Seen:
    """Return arrivals by the hour (UTC) of a mean day, and lengths, of the last ``days`` days.

    Raises ``InvalidRequest`` when there was nothing, and ``StorageUnavailable``.
    """
    make_data_dir(settings.data_dir)
    with open_stores(settings) as stores:
        return seen_in(stores.database, days)


def share_profile(settings: Settings, text: str) -> None:
    """Keep a machine's profile where every process of a cluster finds it; nothing is done where there is no cluster.

    Raises ``StorageUnavailable``, ``InsufficientStorage``.
    """
    if settings.mode == "cluster":
        open_audio(settings).put(KEY, text.encode())
