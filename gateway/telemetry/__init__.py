"""What operators see of a gateway: metrics, logs, health, ops HTTP. Never what is said."""
