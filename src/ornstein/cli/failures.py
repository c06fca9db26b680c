"""How a command says that it failed: refused input, the machine, another package, or an internal error."""

import errno

from ornstein.errors import InputError, OrnsteinError, reason

ASKED = {  # what the system says of a path that the user can mend
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG),
    *(errno.ELOOP, errno.EROFS, errno.ENOTEMPTY),
}

FULL = ("can't allocate memory", "out of memory")  # how torch says that no memory is left


def failure(error: BaseException) -> tuple[int, str]:
    """The exit code and the line for what ended a command."""
    if isinstance(error, OrnsteinError):
        return error.code, " ".join(str(error).split())
    told = isinstance(error, RuntimeError) and any(words in str(error) for words in FULL)
    if told or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the last is torch's
        return 1, (
            f"the memory is not enough ({reason(error)}): what was saved before is still there; lower the batch, the "
            "horizon, the candidates or the widths, or use a larger machine"
        )
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] != "ornstein":
        return InputError.code, f"package {error.name} cannot be used ({reason(error)}): install it, or repair it"
    if isinstance(error, SystemExit):
        return InputError.code, f"a module that was imported or called ended the program ({reason(error)}): mend it"
    return 1, f"internal error: {reason(error)}; please report it with what ORNSTEIN_TRACEBACK=1 shows"


def _of_system(error: OSError) -> tuple[int, str]:
    """A file or a disk that the system refuses."""
    what = f"'{error.filename}'" if error.filename is not None else "a file"
    why = error.strerror or reason(error)
    if error.errno in ASKED:
        return InputError.code, f"{what} cannot be used ({why}): expected a path that can; mend it, or name another"
    return 1, f"{what} cannot be read or written ({why}): what was saved before is still there; mend it, then go on"
