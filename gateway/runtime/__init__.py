"""Performs, in asyncio. Knows the world only through the Protocols in `ports`."""
