"""From settings to running services, and back: the only place that knows which classes do the work."""

from tympan.bootstrap.embedded import serve
from tympan.bootstrap.pipeline import Services, chosen_hardware, make_data_dir, running

__all__ = ["Services", "chosen_hardware", "make_data_dir", "running", "serve"]
