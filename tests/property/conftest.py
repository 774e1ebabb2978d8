"""A machine under load is slow, and that is no fault of what is tested."""

from hypothesis import settings

settings.register_profile("unhurried", settings(), deadline=None)
settings.load_profile("unhurried")
