"""The program `ornstein`: commands, their options, and what they say."""
