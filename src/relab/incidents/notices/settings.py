"""Settings of notices: their receivers, and the people who may answer in Slack."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from relab.incidents.notices.channels.registry import ChannelOptions
from relab.incidents.notices.receivers import Receiver, require_address


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """Intervals, time limits and pauses of sending notices to a receiver, in seconds.

    Attributes:
        poll_interval_s: the interval of polls for pending events.
        request_timeout_s: the time limit of a request.
        min_retry_pause_s, max_retry_pause_s: the first and the longest pause between retries. Each pause is twice as
            long as the one before. A receiver may request longer ones by `Retry-After`, up to an hour.
        give_up_after_s: a notice is skipped for good when the pauses between its retries add up to this many seconds.
        lease_s: how long a process keeps a receiver's lease (the right to send to it) without renewing it.
    """

    poll_interval_s: float = 1.0
    request_timeout_s: float = 10.0
    min_retry_pause_s: float = 1.0
    max_retry_pause_s: float = 300.0
    give_up_after_s: float = 14_400.0
    lease_s: float = 20.0


@dataclass(frozen=True, slots=True)
class NoticeOptions:
    """Receivers of notices, and permissions in Slack.

    Attributes:
        channels: the options of the channels, each of which describes at most one receiver.
        public_url: the address at which people reach relab; notices link to it.
        slack_signing_secret: the signing secret of the Slack app; None: commands from Slack are not answered.
        slack_operators: ids of the users who may approve, reject, pause and resume; by default nobody.
        delivery: the intervals, time limits and pauses of sending.
    """

    channels: tuple[ChannelOptions, ...] = ()
    public_url: str | None = None
    slack_signing_secret: SecretStr | None = None
    slack_operators: frozenset[str] = frozenset()
    delivery: DeliverySettings = DeliverySettings()

    def receivers(self) -> list[Receiver]:
        """Return the receivers that the channels describe.

        Raises:
            ConfigurationError: an address is not valid; the message omits it, because it may be a secret.
        """
        found = [receiver for channel in self.channels if (receiver := channel.receiver()) is not None]
        for receiver in found:
            require_address(receiver.url.get_secret_value(), receiver.setting)
        if self.public_url is not None:
            require_address(self.public_url, "RELAB_NOTICES__PUBLIC_URL")
        return found
