"""The files that say what an app depends on: which one counts, and what is in it."""
import json
import os
import re

# Files that decide what is installed, by kind, in the order in which they count.
KINDS = {
    "uv": ("uv.lock", "pyproject.toml"),
    "poetry": ("poetry.lock", "pyproject.toml"),
    "pipenv": ("Pipfile.lock",),
    "requirements": ("requirements.txt",),
    "pyproject": ("pyproject.toml",),
    "setup": ("setup.py", "setup.cfg"),
}


def kind():
    """How the app's dependencies are installed."""
    return next((name for name, files in KINDS.items() if os.path.isfile(files[0])), None)


def contents(name):
    """Everything that decides what is installed, as bytes; None if local packages do, too."""
    files = [file for file in KINDS[name] if os.path.isfile(file)]
    if name == "setup":
        return None
    if name == "requirements":
        files = referenced("requirements.txt")
        if files is None:
            return None
    parts = []
    for path in files:
        with open(path, "rb") as file:
            parts += [path.encode(), file.read()]
    return b"\0".join(parts)


def referenced(path, seen=None):
    """A requirements file and those it includes; None if one installs something of the source."""
    seen = seen if seen is not None else []
    path = os.path.normpath(path)
    if path in seen or not os.path.isfile(path):
        return seen
    seen.append(path)
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file.read().replace("\\\n", " ").splitlines()]
    for line in lines:
        include = re.match(r"(?:-r|-c|--requirement|--constraint)[\s=]+(\S+)", line)
        if include:
            below = os.path.join(os.path.dirname(path), include[1])
            if referenced(below, seen) is None:
                return None
        elif re.match(r"(-e|--editable)\b|\.{0,2}/|\.$|\.\[|.*@\s*file:", line):
            return None
    return seen


def from_pipfile_lock():
    """The default packages of Pipfile.lock in the form of a requirements file."""
    with open("Pipfile.lock", encoding="utf-8") as file:
        lock = json.load(file)
    lines = []
    for name, entry in lock.get("default", {}).items():
        if "version" not in entry:
            target = entry.get("git") or entry.get("file") or entry.get("path")
            prefix = "git+" if "git" in entry else ""
            reference = f"@{entry['ref']}" if "ref" in entry else ""
            lines.append(f"{name} @ {prefix}{target}{reference}")
            continue
        extras = f"[{','.join(entry['extras'])}]" if entry.get("extras") else ""
        markers = f" ; {entry['markers']}" if entry.get("markers") else ""
        hashes = "".join(f" --hash={digest}" for digest in entry.get("hashes", []))
        lines.append(f"{name}{extras}{entry['version']}{markers}{hashes}")
    return "\n".join(lines) + "\n"
