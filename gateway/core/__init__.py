"""Decides. Pure: no asyncio, no clock (`now` comes in), no randomness of its own, no logging."""
