"""Synthesizers of data."""

from ornstein.roles.rows import Parts, Row, Variant


def _synther() -> Parts:
    from ornstein.roles.synthesizers.synther import PAPER, Config, SynthER

    return Parts(SynthER, Config(), variants={"paper": Variant(PAPER)})


ROWS: dict[str, Row] = {
    "synther": Row(
        "synthesizers", "offline", "invent transitions like the data's by denoising whole rows", _synther,
        {"paper": "synther with the paper's settings, made for a GPU"},
    ),
}  # fmt: skip
