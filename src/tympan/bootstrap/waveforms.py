"""From settings to what makes waveforms: a decoder of its own, which starts when somebody first asks for one."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tympan.api.intake.staging import open_staging
from tympan.audio.decode import Decoder
from tympan.config import Settings
from tympan.jobs.service import JobService
from tympan.jobs.waveforms import Waveforms
from tympan.storage.blobs import BlobStore


@contextmanager
def drawing(settings: Settings, blobs: BlobStore, jobs: JobService) -> Iterator[Waveforms]:
    """Yield what makes waveforms of stored audio, one after another."""
    with ExitStack() as stack:
        scratch = stack.enter_context(open_staging(settings.data_dir / "staging"))
        decoder = Decoder(max_children=1)
        stack.callback(decoder.close)
        waveforms = Waveforms(jobs.recordings, blobs, scratch, decoder, settings.max_audio_s)
        stack.callback(waveforms.close)
        yield waveforms
