"""The Realtime API: dials it, speaks to it, and calls its failures by our names.

The only room that knows the WebSocket library; no exception of it leaves.
"""
