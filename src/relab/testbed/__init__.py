"""The proving ground: a service that really breaks, what breaks it, and who may mend it."""
