"""Personalization: which titles to show this member."""
