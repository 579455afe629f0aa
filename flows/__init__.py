"""Captures of one subject each, with their entries as JSON beside them, and the program that records them anew."""
