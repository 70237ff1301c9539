"""The JSON client of targets: HTTPS verifies certificates, and plain HTTP does not load them."""

from __future__ import annotations

import ssl

import pytest

from relab.rollouts.errors import TargetUnavailableError
from relab.rollouts.targets.json_client import JsonClient, at_pointer


@pytest.mark.parametrize("url", ["https://target.example/flags", "HTTPS://target.example", "target.example"])
def test_certificates_are_checked(url: str) -> None:
    context = JsonClient(1.0)._context_for(url)

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.get_ca_certs()


def test_plain_http_loads_no_certificates() -> None:
    assert JsonClient(1.0)._context_for("http://127.0.0.1:8011/flags").get_ca_certs() == []


@pytest.mark.parametrize(
    ("url", "headers"), [("http://127.0.0.1:9/flags", {"If-Match": '"vé"'}), ("http://xn--/flags", {})]
)
def test_request_that_http_cannot_express_is_an_unavailable_target(url: str, headers: dict[str, str]) -> None:
    with pytest.raises(TargetUnavailableError):
        JsonClient(1.0).request("GET", url, headers=headers)


def test_pointer_with_a_superscript_is_no_place_in_a_list() -> None:
    with pytest.raises(LookupError):
        at_pointer([1, 2, 3], "/²")
