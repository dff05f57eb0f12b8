"""Payments: when, and through which processor, to charge."""
