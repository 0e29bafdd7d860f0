"""The two networks, loaded: who speaks in ten seconds, and what a voice is like. Here the only use of ONNX Runtime."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from tympan.diarize import embedding_graph, segmentation_graph
from tympan.diarize.base import Activity, Embedding
from tympan.diarize.checkpoint import read_tensors
from tympan.diarize.features import Features
from tympan.domain import Samples
from tympan.errors import ModelUnavailable

SEGMENTATION_FILE, EMBEDDING_FILE = "segmentation.pt", "embedding.pt"
"""Names of the checkpoints in a model's folder."""

_PREFIX = "state_dict."
_FULL_SCALE = np.float32(32_768)
_WHO = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], np.bool_)
"""Which local speakers each class of the segmentation network stands for."""


@dataclass(frozen=True, slots=True)
class Networks:
    """Both networks on a number of threads; safe to share."""

    _segmentation: onnxruntime.InferenceSession
    _embedding: onnxruntime.InferenceSession

    @classmethod
    def load(cls, folder: Path, threads: int = 1) -> "Networks":
        """Build both from the checkpoints in ``folder``. Raises ``ModelUnavailable`` where they are others."""
        segmentation = read_tensors(folder / SEGMENTATION_FILE)
        embedding = read_tensors(folder / EMBEDDING_FILE)
        try:
            graphs = (
                segmentation_graph.build({name.removeprefix(_PREFIX): value for name, value in segmentation.items()}),
                embedding_graph.build(embedding),
            )
        except KeyError as error:
            raise ModelUnavailable(
                f"The model in {folder} has no weights {error}.", remedy="Fetch it again: delete the folder."
            ) from error
        return cls(*(_session(graph, threads) for graph in graphs))

    def activity(self, window: Samples) -> Activity:
        """Return who speaks when in a window, frame by frame."""
        audio = (window.astype(np.float32) / _FULL_SCALE)[None, None]
        (scores,) = self._segmentation.run(None, {segmentation_graph.AUDIO: audio})
        found: Activity = _WHO[scores[0].argmax(axis=-1)]
        return found

    def embedding(self, features: Features) -> Embedding:
        """Return whose voice it is that these features are of; their mean over time, the channel, is taken off."""
        (found,) = self._embedding.run(None, {embedding_graph.FEATURES: (features - features.mean(axis=0))[None]})
        vector: Embedding = found[0] / np.linalg.norm(found[0])
        return vector


def _session(graph: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, sess_options=options, providers=["CPUExecutionProvider"])
