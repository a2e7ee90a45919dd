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
    if not all("==" in line for line in lines):
        lines = [line.split(" --hash=")[0] for line in lines]
    return "\n".join(lines) + "\n"


def from_poetry_lock():
    """The main packages of poetry.lock in the form of a requirements file.

    Since lock version 2.1 each package names its groups; before, only its category or nothing: then
    everything is installed."""
    import tomllib

    with open("poetry.lock", "rb") as file:
        lock = tomllib.load(file)
    lines = []
    for package in lock.get("package", []):
        groups = package.get("groups", [package.get("category", "main")])
        if package.get("optional") or "main" not in groups:
            continue
        markers = package.get("markers")
        if isinstance(markers, dict):
            markers = markers.get("main")
        marker = f" ; {markers}" if markers else ""
        source = package.get("source", {})
        if source.get("type") == "git":
            reference = source.get("resolved_reference", "HEAD")
            lines.append(f"{package['name']} @ git+{source['url']}@{reference}{marker}")
        elif source.get("type") in ("url", "file", "directory"):
            lines.append(f"{package['name']} @ {source['url']}{marker}")
        else:
            hashes = "".join(f" --hash={file['hash']}" for file in package.get("files", []))
            lines.append(f"{package['name']}=={package['version']}{marker}{hashes}")
    if not all("==" in line for line in lines):
        # pip's rule: hashes for all or for none, and these sources have none.
        lines = [line.split(" --hash=")[0] for line in lines]
    return "\n".join(lines) + "\n"
