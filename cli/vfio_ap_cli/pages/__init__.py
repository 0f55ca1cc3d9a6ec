"""Answers as text for people. No decisions."""
