"""Channels of notices, one module each. A new channel is one module here, and its settings in `NoticeSettings`."""
