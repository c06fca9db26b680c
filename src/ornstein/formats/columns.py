"""Columns with names: which is the observation, which the action, and where episodes end.

Names that others use are known; a user says what ours do not cover: `columns={"obs": ["pos", "vel"], "act": "u"}`.
Roles are obs, act, rew, next_obs, and those that tell of ends (see `ornstein.formats.ends`); any other name is a field.
Observations are one name, a list of names to join, or a dictionary of names to keep apart.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ornstein.errors import InputError

Names = str | Sequence[str] | Mapping[str, str]
Columns = Mapping[str, Names]

UNITS = ("episode", "ep", "traj", "trajectory", "demo", "rollout", "path")  # what others call an episode


def _of_units(*words: str) -> tuple[str, ...]:
    return tuple(f"{unit}_{word}" for unit in UNITS for word in words)


ROLES = {  # what a column may be called; the first that is there is taken
    "obs": ("observations", "observation", "obs", "state", "states"),
    "act": ("actions", "action", "acts", "act"),
    "rew": ("rewards", "reward", "rews", "rew"),
    "next_obs": ("next_observations", "next_obs", "next_state", "next_states"),
    "done": (
        "terminations", "termination", "terminated", "terminateds", "terminals", "terminal", "is_terminal", "done_bool",
    ),
    "ended": ("dones", "done", "is_done"),  # true ends, where no column tells those alone
    "cut": ("truncations", "truncation", "truncated", "truncateds", "timeouts", "timeout", "TimeLimit.truncated"),
    "over": ("is_last", "dones_float", "episode_over", "end_of_episode"),  # ends or cuts
    "alive": ("masks", "mask", "not_dones", "not_done", "discounts", "discount"),  # 0 at true ends
    "ends": _of_units("ends", "end"),
    "breaks": ("indices",),  # as `ends`, without the last
    "lengths": (*_of_units("lengths", "length", "lens", "len"), "lengths"),
    "starts": ("is_first", *_of_units("starts", "start")),
    "index": (*_of_units("index", "indices", "idx", "id", "ids", "number"), "episode"),
}  # fmt: skip
FIELDS = {
    "costs": "cost", "cost": "cost", "infos/cost": "cost", "infos/goal": "goal", "tasks": "task", "task": "task",
    "task_id": "task", "task_ids": "task",
}  # fmt: skip
LEFT_OUT = {"step_type", "next_step_type", "valids"}  # of no use once ends are known
ASIDE = ("infos/", "metadata/")  # groups of which only the fields above are read


def parsed(words: Sequence[str]) -> dict[str, Names]:
    """Columns as the shell has them: `obs=pos,vel` joins two, `obs.front=img` is a part of a dictionary."""
    found: dict[str, Any] = {}
    for word in words:
        match = re.fullmatch(r"([\w-]+)(?:\.([\w-]+))?=(.+)", word)
        role, part, names = match.groups() if match else ("", None, "")
        whole_or_parts = found.get(role, {}) if part else {}
        if not match or (role in found and not part) or not isinstance(whole_or_parts, dict):
            raise InputError(f"column '{word}': expected ROLE=NAME, ROLE=NAME,NAME or ROLE.PART=NAME, each role once")
        found[role] = {**whole_or_parts, part: names} if part else names.split(",") if "," in names else names
    return found
