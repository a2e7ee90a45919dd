"""What a buildpack says and how it keeps layers."""
import json
import os
import re
import shutil
import sys

LAYERS = os.environ.get("CNB_LAYERS_DIR", "")


def step(text):
    print(f"-----> {text}", flush=True)


def detail(text):
    print(f"       {text}", flush=True)


def warn(text):
    print(f" !     {text}", flush=True)


def fail(*lines):
    for line in lines:
        warn(line)
    sys.exit(1)


class Layer:
    """A directory below the layers directory, with its metadata."""

    def __init__(self, name):
        self.name = name
        self.path = f"{LAYERS}/{name}"
        self.toml = f"{self.path}.toml"

    def metadata(self):
        """The strings of the restored metadata."""
        try:
            with open(self.toml, encoding="utf-8") as file:
                pairs = re.findall(r'^(\w+) = ("(?:[^"\\]|\\.)*")$', file.read(), re.M)
        except OSError:
            return {}
        return {name: json.loads(value) for name, value in pairs}

    def is_current(self, **wanted):
        """Whether the restored layer was made of the same."""
        return os.path.isdir(self.path) and self.metadata() == wanted

    def clear(self):
        """An empty directory; a removed and made one is known as new by the lifecycle."""
        if os.path.lexists(self.path):
            shutil.rmtree(self.path)
        os.makedirs(self.path)

    def keep(self, launch=False, build=False, cache=False, **metadata):
        """Writes the metadata file."""
        flags = (("launch", launch), ("build", build), ("cache", cache))
        lines = ["[types]"] + [f"{name} = {str(value).lower()}" for name, value in flags]
        lines += ["", "[metadata]"] + [f"{n} = {json.dumps(v)}" for n, v in metadata.items()]
        write(self.toml, "\n".join(lines) + "\n")

    def env(self, kind, **variables):
        """Writes `<layer>/<kind>/<NAME>.<action>` files; `NAME__action` names one."""
        for name, value in variables.items():
            write(f"{self.path}/{kind}/{name.replace('__', '.')}", value)


def write(path, text):
    """Writes a file unless it is so already: a write would make a restored layer a changed one."""
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return
    except (OSError, ValueError):
        pass
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def launch(processes):
    """Writes launch.toml: process type -> argument list; the first is the default."""
    lines = []
    for index, (name, command) in enumerate(processes.items()):
        words = ", ".join(quoted(word) for word in command)
        default = "true" if index == 0 else "false"
        lines += ["[[processes]]", f'type = "{name}"', f"command = [{words}]", f"default = {default}"]
    write(f"{LAYERS}/launch.toml", "\n".join(lines) + "\n")


def quoted(text):
    """A TOML string: JSON's escapes, but for DEL, which JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
