"""Channels to send notices through, one module each. A new one needs a module here and settings in `NoticeSettings`."""
