"""Which Python an app asks for."""
import os
import re


def wanted():
    """The `major.minor` asked for (None for any), and where it says so."""
    for name in (".python-version", "runtime.txt"):
        if os.path.isfile(name):
            with open(name, encoding="utf-8", errors="replace") as file:
                lines = [line.strip() for line in file.read(4096).splitlines()]
            for line in lines:
                match = re.fullmatch(r"(?:c?python-?)?v?(\d+\.\d+)(?:\.\d+)?", line)
                if match:
                    return match[1], name
    return None, None


def allowed(specifier, version):
    """Whether `requires-python` admits a `major.minor` version; unclear parts admit it."""
    number = tuple(int(part) for part in version.split("."))
    for part in specifier.split(","):
        match = re.fullmatch(r"\s*(>=|<=|==|!=|~=|===|>|<)\s*(\d+)(?:\.(\d+))?(?:\.(\d+|\*))?\S*\s*", part)
        if not match:
            continue
        operator, major, minor = match[1], int(match[2]), match[3]
        bound = (major, int(minor or 0))
        if operator == ">=" and number < bound:
            return False
        if operator == ">" and (number < bound or minor and not match[4] and number <= bound):
            return False
        # `<3.13.2` admits 3.13.0, so only the minor version counts where a third number is given.
        if operator == "<" and (number > bound if match[4] else number >= bound):
            return False
        if operator == "<=" and number > bound and minor:
            return False
        if operator in ("==", "===") and minor and number != bound:
            return False
        if operator == "~=" and (number < bound or number[0] != major or match[4] and number != bound):
            return False
    return True
