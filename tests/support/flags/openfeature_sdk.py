"""The OpenFeature SDK with its OFREP provider, as a service uses it to read flags of a running `lab serve`."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

USERS = [f"user-{number}" for number in range(100)]
_numbers = itertools.count()


@contextmanager
def openfeature_client(base_url: str) -> Iterator[OpenFeatureClient]:
    """Yield a client of the SDK that reads the flags of the server at this URL."""
    provider = OFREPProvider(base_url, timeout=20.0)
    provider.session.trust_env = False  # ignores proxy settings in the environment
    # The SDK has one registry of providers per process; a separate domain isolates the tests.
    domain = f"test-{next(_numbers)}"
    api.set_provider_and_wait(provider, domain)
    try:
        yield api.get_client(domain)
    finally:
        api.clear_providers()
        provider.session.close()


@dataclass
class Application:
    """The code of a service: it reads a boolean flag for each user, and records what each version of the flag gave.

    Attributes:
        variants: the variants by version of the flag and user; more than one for a user would be an assignment that
            does not stick.
        reasons: the reasons by version.
        names: the variants with the values true and false.
    """

    client: OpenFeatureClient
    key: str
    variants: dict[int, dict[str, set[str]]] = field(default_factory=dict)
    reasons: dict[int, set[str]] = field(default_factory=dict)
    names: tuple[str, str] = ("on", "off")
    _requests: Iterator[int] = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def variant(self, user: str) -> str:
        """Return the variant that the SDK gives this user."""
        found = self.client.get_boolean_details(self.key, False, EvaluationContext(targeting_key=user))
        assert found.error_code is None, found.error_message
        assert found.variant == self.names[0 if found.value else 1]
        version = int(found.flag_metadata["version"])
        with self._lock:
            self.variants.setdefault(version, {}).setdefault(user, set()).add(found.variant)
            self.reasons.setdefault(version, set()).add(str(found.reason))
        return found.variant

    def variants_of_all(self) -> set[str]:
        """Return the variants that all users get now."""
        return {self.variant(user) for user in USERS}

    def next_user(self) -> str:
        """Return the user of the next request."""
        return USERS[next(self._requests) * 7 % len(USERS)]
