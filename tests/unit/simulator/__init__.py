"""The simulator, without socket and clock."""
