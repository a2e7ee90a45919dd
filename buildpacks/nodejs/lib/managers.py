"""npm, yarn (classic and berry) and pnpm: which one an app uses, and its commands."""
import os
import re


class Manager:
    """A package manager. `locks` are the files that decide what it installs."""

    name = ""
    package = ""
    locks = ()
    # Where the package keeps its program.
    program = ""

    def __init__(self, version=None, pin=None):
        self.version = version
        self.pin = pin

    def lock(self):
        return next((name for name in self.locks if os.path.isfile(name)), None)

    def install(self, production):
        raise NotImplementedError

    def prune(self):
        raise NotImplementedError

    def env(self, cache):
        return {}


class Npm(Manager):
    name = package = "npm"
    locks = ("npm-shrinkwrap.json", "package-lock.json")

    def install(self, production):
        command = ["npm", "ci"] if self.lock() else ["npm", "install", "--no-package-lock"]
        if self.version.startswith("6."):
            return command + (["--production"] if production else ["--production=false"])
        return command + (["--omit=dev"] if production else ["--include=dev"])

    def prune(self):
        return ["npm", "prune", "--ignore-scripts",
                "--production" if self.version.startswith("6.") else "--omit=dev"]

    def env(self, cache):
        return {"npm_config_cache": f"{cache}/npm"}


class Yarn(Manager):
    name = package = "yarn"
    locks = ("yarn.lock",)
    program = "bin/yarn.js"

    def install(self, production):
        command = ["yarn", "install", "--non-interactive", "--no-progress",
                   f"--production={str(production).lower()}"]
        return command + (["--frozen-lockfile"] if self.lock() else [])

    def prune(self):
        return self.install(True) + ["--ignore-scripts", "--prefer-offline"]

    def env(self, cache):
        return {"YARN_CACHE_FOLDER": f"{cache}/yarn"}


class Berry(Manager):
    name = "yarn"
    package = "@yarnpkg/cli-dist"
    locks = ("yarn.lock",)
    program = "bin/yarn.js"

    def install(self, production):
        if production:
            return ["yarn", "workspaces", "focus", "--all", "--production"]
        return ["yarn", "install"] + (["--immutable"] if self.lock() else [])

    def prune(self):
        return self.install(True)

    def env(self, cache):
        # Plug'n'Play wants a loader in every process; plain node_modules works for all.
        return {"YARN_CACHE_FOLDER": f"{cache}/berry", "YARN_NODE_LINKER": "node-modules",
                "YARN_ENABLE_TELEMETRY": "0", "YARN_ENABLE_GLOBAL_CACHE": "false",
                "YARN_HTTPS_CA_FILE_PATH": os.environ.get("SSL_CERT_FILE", "")}


class Pnpm(Manager):
    name = package = "pnpm"
    locks = ("pnpm-lock.yaml",)
    program = "bin/pnpm.cjs"

    def install(self, production):
        command = ["pnpm", "install", "--prod" if production else "--prod=false"]
        return command + (["--frozen-lockfile"] if self.lock() else [])

    def prune(self):
        return ["pnpm", "prune", "--prod", "--ignore-scripts"]

    def env(self, cache):
        # Copies: a file with names in two layers could be stored in only one of them.
        return {"npm_config_store_dir": f"{cache}/pnpm", "npm_config_package_import_method": "copy",
                "npm_config_manage_package_manager_versions": "false"}


def choose(package):
    """The manager an app uses, and why: its `packageManager` field, else its lock file."""
    field = package.get("packageManager")
    match = re.fullmatch(r"(npm|yarn|pnpm)@(\d+\.\d+\.\d+)(?:\+(sha\d+)\.([0-9a-f]+))?", str(field))
    if match:
        name, version, algorithm, digest = match.groups()
        pin = f"{algorithm}-{digest}" if algorithm in ("sha256", "sha512") else None
        if name == "yarn":
            kind = Yarn if version.startswith("1.") else Berry
        else:
            kind = {"npm": Npm, "pnpm": Pnpm}[name]
        return kind(version, pin), f"packageManager: {name}@{version}"
    if os.path.isfile("pnpm-lock.yaml"):
        return Pnpm(), "pnpm-lock.yaml"
    if os.path.isfile("yarn.lock"):
        return (Berry if is_berry() else Yarn)(), "yarn.lock"
    lock = Npm().lock()
    return Npm(), lock or "no lock file"


def is_berry():
    with open("yarn.lock", encoding="utf-8", errors="replace") as file:
        return "__metadata:" in file.read(4096)


def default_version(manager, versions, node_major):
    """The version of the catalogue that suits the lock file and the Node.js version."""
    if manager.name == "npm":
        wanted = {14: "6", 15: "8", 16: "8", 17: "8", 18: "10", 19: "9", 20: "10", 21: "10", 22: "10",
                  23: "10"}.get(node_major, "11")
    elif manager.name == "pnpm":
        wanted = {"5": "8", "6": "8"}.get(pnpm_lock_major(), "10" if node_major >= 18 else "8")
    else:
        wanted = ""
    fitting = [version for version in versions if version.split(".")[0] == wanted]
    return (fitting or list(versions))[-1]


def pnpm_lock_major():
    try:
        with open("pnpm-lock.yaml", encoding="utf-8", errors="replace") as file:
            match = re.search(r"lockfileVersion:\s*['\"]?(\d+)", file.read(4096))
    except OSError:
        return None
    return match[1] if match else None
