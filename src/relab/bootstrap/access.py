"""Builds the service of access control from the settings."""

from __future__ import annotations

from relab.access.service import AccessService
from relab.bootstrap.foundation import Foundation


def build_access(base: Foundation) -> AccessService:
    """Return the service that authorizes requests and manages tokens, with the settings and the database of `base`."""
    settings = base.settings
    return AccessService(
        base.database,
        base.clock,
        ingest_secret=settings.app_ingest_secret,
        allowed_hosts=settings.http.allowed_hosts,
        trust_loopback_publish=settings.trust_loopback_publish,
        trusted_proxies=settings.http.trusted_proxies,
    )
