"""Version ranges as npm understands them, for the engines that package.json asks for."""
import re

NUMBER = re.compile(r"v?(\d+|[xX*])?(?:\.(\d+|[xX*]))?(?:\.(\d+|[xX*]))?(-[0-9A-Za-z.-]+)?(?:\+.*)?$")
CODENAMES = {"fermium": 14, "gallium": 16, "hydrogen": 18, "iron": 20, "jod": 22, "krypton": 24}


def key(version):
    """Sorts versions: `22.1.0` -> (22, 1, 0)."""
    return tuple(int(part) for part in version.split("."))


def best(versions, wanted, default):
    """The version to use for the range `wanted`: of the major `default` if it fits, else of the
    newest even (long-term) major, else the newest; None if nothing fits or it is not a range."""
    alternatives = parse(wanted)
    fitting = [version for version in versions if matches(key(version), alternatives)]
    if not fitting:
        return None

    def preference(version):
        major = key(version)[0]
        return (str(major) == default, major % 2 == 0, key(version))

    return max(fitting, key=preference)


def nearest(versions, wanted):
    """The newest version of the major nearest to the first number in `wanted`."""
    found = re.search(r"\d+", wanted)
    if not found or not versions:
        return None
    goal = int(found[0])
    # Of two majors as near, the newer one.
    return min(versions, key=lambda version: (
        abs(key(version)[0] - goal), [-part for part in key(version)]))


def parse(text):
    """The alternatives of a range, each a list of (low, high): low <= version < high."""
    return [bounds for part in text.split("||") if (bounds := comparators(part.strip())) is not None]


def matches(version, alternatives):
    return any(all(low <= version < high for low, high in part) for part in alternatives)


ANY = ((0, 0, 0), (1 << 30, 0, 0))
NONE = ((1, 0, 0), (0, 0, 0))


def comparators(text):
    low = text.lower()
    if low in ("", "*", "x", "latest", "node", "current", "stable", "lts", "lts/*"):
        return [ANY]
    if low.startswith("lts/"):
        major = CODENAMES.get(low[4:])
        return [((major, 0, 0), (major + 1, 0, 0))] if major else None
    hyphen = re.fullmatch(r"(\S+)\s+-\s+(\S+)", text)
    if hyphen:
        first, last = bounds("", hyphen[1]), bounds("", hyphen[2])
        return [(first[0], last[1])] if first and last else None
    result = []
    for operator, number in re.findall(r"([<>=^~]*)\s*([^\s<>=^~]+)", text.replace("~>", "~")):
        found = bounds(operator, number)
        if found is None:
            return None
        result.append(found)
    return result or None


def bounds(operator, number):
    """The half-open interval of one comparator."""
    match = NUMBER.match(number)
    if not match:
        return None
    parts = [int(p) if p and p.isdigit() else None for p in match.groups()[:3]]
    if parts[0] is None:
        return NONE if operator in ("<", ">") else ANY
    major, minor, patch = (part or 0 for part in parts)
    low = (major, minor, patch)
    if parts[1] is None:
        above = (major + 1, 0, 0)
    elif parts[2] is None:
        above = (major, minor + 1, 0)
    else:
        above = (major, minor, patch + 1)
    if operator == "^":
        if major or parts[1] is None:
            above = (major + 1, 0, 0)
        elif minor or parts[2] is None:
            above = (0, minor + 1, 0)
    elif operator == "~":
        above = (major, minor + 1, 0) if parts[1] is not None else above
    elif operator == ">=":
        above = ANY[1]
    elif operator == ">":
        low, above = above, ANY[1]
    elif operator == "<":
        low, above = ANY[0], low
    elif operator == "<=":
        low = ANY[0]
    elif operator not in ("", "="):
        return None
    return low, above
