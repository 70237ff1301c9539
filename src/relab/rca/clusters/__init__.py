"""Clusters: groups of failed runs that share a cause.

Input: reports. Output: a key for each failure (`key.py`, pure), and the clusters of the stored failures (`reader.py`).
"""

from relab.rca.clusters.key import FailureKey, failure_row, key_of
from relab.rca.clusters.models import ClusterPage, FailureCluster

__all__ = ["ClusterPage", "FailureCluster", "FailureKey", "failure_row", "key_of"]
