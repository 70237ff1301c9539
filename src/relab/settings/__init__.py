"""All settings of relab that an operator can change, as typed models, and the function that reads them."""

from relab.settings.models import Settings, load_settings
from relab.settings.sections import HttpSettings, JobSettings, NoticeSettings

__all__ = ["HttpSettings", "JobSettings", "NoticeSettings", "Settings", "load_settings"]
