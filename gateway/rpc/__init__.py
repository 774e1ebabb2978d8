"""The gRPC door: authentication, streams, and the contract's messages.

The only room that knows gRPC and the stubs; no type of theirs leaves.
"""
