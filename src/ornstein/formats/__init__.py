"""Readers and writers of the files that data comes from, found by a table: files in, episodes out."""
