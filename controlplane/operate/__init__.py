"""Towards operators: metrics, health, the admin socket, status."""
