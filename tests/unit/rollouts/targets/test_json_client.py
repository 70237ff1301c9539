"""The JSON client of targets: HTTPS verifies certificates, and plain HTTP does not load them."""

from __future__ import annotations

import ssl

import pytest

from relab.rollouts.targets.json_client import JsonClient


@pytest.mark.parametrize("url", ["https://target.example/flags", "HTTPS://target.example", "target.example"])
def test_certificates_are_checked(url: str) -> None:
    context = JsonClient(1.0)._context_for(url)

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.get_ca_certs()


def test_plain_http_loads_no_certificates() -> None:
    assert JsonClient(1.0)._context_for("http://127.0.0.1:8011/flags").get_ca_certs() == []
