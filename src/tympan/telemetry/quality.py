"""What is told about transcripts: how good golden sets are read, and what those of everybody are like."""

import math

from prometheus_client import Counter, Gauge, Histogram

from tympan.observation import Observation
from tympan.telemetry.registry import REGISTRY, UNKNOWN, language_label

WER = Gauge(
    "tympan_wer_ratio",
    "Word errors per word said, in the last run of a golden set (characters in zh and ja).",
    ["golden_set", "model"],
    registry=REGISTRY,
)
CER = Gauge(
    "tympan_cer_ratio",
    "Character errors per character said, in the last run of a golden set.",
    ["golden_set", "model"],
    registry=REGISTRY,
)
HALLUCINATIONS = Gauge(
    "tympan_hallucination_ratio",
    "Share of clips without speech that got text, in the last runs of golden sets.",
    ["model"],
    registry=REGISTRY,
)
QUALITY_RUN_AGE = Gauge(
    "tympan_quality_run_age_seconds",
    "Time since a golden set was last measured; since it was made, when it never was.",
    ["golden_set"],
    registry=REGISTRY,
)
QUALITY_ALARMS = Gauge("tympan_quality_alarms", "Open alarms about quality by kind.", ["kind"], registry=REGISTRY)
DETECTED_LANGUAGES = Counter(
    "tympan_detected_languages", "Transcripts by language; none where nobody spoke.", ["language"], registry=REGISTRY
)
_SHARES = (0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 0.9, 1)
HALLUCINATION_SCORE = Histogram(
    "tympan_hallucination_score", "Mean hallucination score of a transcript.", buckets=_SHARES, registry=REGISTRY
)
EMPTY_TRANSCRIPTS = Counter("tympan_empty_transcripts", "Transcripts without text.", ["model"], registry=REGISTRY)
SPEECH_COVERAGE = Histogram(
    "tympan_speech_coverage_ratio", "Share of the audio taken for speech.", buckets=_SHARES, registry=REGISTRY
)
AUDIO_SNR = Histogram(
    "tympan_audio_snr_db", "Signal to noise, estimated.", buckets=(0, 5, 10, 15, 20, 30, 40, 60), registry=REGISTRY
)
_BANDS_HZ = (1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000)
AUDIO_BANDWIDTH = Histogram(
    "tympan_audio_bandwidth_hz", "Highest frequency of the audio, 8000 at most.", buckets=_BANDS_HZ, registry=REGISTRY
)
AUDIO_CODECS = Counter("tympan_audio_codecs", "Transcripts by the codec of the audio.", ["codec"], registry=REGISTRY)
DRIFT_PSI = Gauge(
    "tympan_drift_psi",
    "How far the last days of traffic differ from those before (population stability index); told by who tidies up.",
    ["feature", "kind"],
    registry=REGISTRY,
)
ROLLOUT_SHARE = Gauge(
    "tympan_rollout_share_ratio",
    "Share of the default's callers that a candidate answers here; 0 while it is not loaded.",
    ["candidate"],
    registry=REGISTRY,
)
TRAFFIC_LOST = Counter("tympan_traffic_lost", "Transcripts missing in the counts of traffic.", registry=REGISTRY)


def record_observation(seen: Observation) -> None:
    """Show what a transcript was like."""
    DETECTED_LANGUAGES.labels("none" if seen.language is None else language_label(seen.language)).inc()
    AUDIO_CODECS.labels(seen.condition.media.codec or UNKNOWN).inc()
    EMPTY_TRANSCRIPTS.labels(seen.model).inc(seen.is_empty)
    for metric, value in (
        (HALLUCINATION_SCORE, seen.hallucination),
        (SPEECH_COVERAGE, seen.coverage),
        (AUDIO_SNR, seen.condition.snr_db),
        (AUDIO_BANDWIDTH, seen.condition.bandwidth_hz),
    ):
        if value is not None and math.isfinite(value):
            metric.observe(value)
