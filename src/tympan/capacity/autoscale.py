"""Targets for the autoscalers of the Kubernetes manifests, from a plan. Pure."""

from dataclasses import dataclass

DRAIN_S = 180.0
"""How soon a worker should be done with its share of what waits, unless a goal for jobs says otherwise."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Seconds of waiting audio for each worker, and the fewest and most workers."""

    backlog_s: int
    least: int
    most: int


def backlog_target_s(audio_s_per_s: float, drain_s: float = DRAIN_S) -> int:
    """Return how much audio may wait for each worker: what it does in ``drain_s``, to two digits."""
    exact = max(1.0, audio_s_per_s * drain_s)
    digits: int = 10 ** max(0, len(str(int(exact))) - 2)
    return max(1, int(round(exact / digits) * digits))


def patch(targets: Targets, component: str) -> str:
    """Return a kustomization that puts the targets into ``components/keda`` or ``components/hpa``."""
    if component == "keda":
        kind, spec, where = "ScaledObject", "minReplicaCount maxReplicaCount", "/spec/triggers/0/metadata/threshold"
    else:
        kind, spec = "HorizontalPodAutoscaler", "minReplicas maxReplicas"
        where = "/spec/metrics/0/external/target/averageValue"
    least, most = spec.split()
    return f"""apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [github.com/you/tympan/deploy/kubernetes/base]
components: [github.com/you/tympan/deploy/kubernetes/components/{component}]
patches:
  - target: {{kind: {kind}, name: tympan-worker}}
    patch: |-
      - {{op: replace, path: /spec/{least}, value: {targets.least}}}
      - {{op: replace, path: /spec/{most}, value: {targets.most}}}
      - {{op: replace, path: {where}, value: "{targets.backlog_s}"}}
"""
