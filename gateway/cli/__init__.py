"""The command `trunkline`. The only room that may use the client, and above all others."""
