"""Downloads, always checked against a hash, and shared between apps by the platform."""
import os
import subprocess

import pack

# Where npm's packages come from unless STAITHE_NPM_REGISTRY names mirrors (separated by spaces).
REGISTRY = "https://registry.npmjs.org"
# Where Node.js itself publishes releases, for versions newer than the catalogue.
NODE_MIRROR = "https://nodejs.org/dist"
TIMEOUT_SECONDS = 60
TRIES = 3


def registries():
    return os.environ.get("STAITHE_NPM_REGISTRY", REGISTRY).rstrip("/").split()


def npm_urls(package, version):
    """The tarball of a package; a scope is not part of its file name."""
    file = f"{package.rsplit('/')[-1]}-{version}.tgz"
    return [f"{registry}/{package}/-/{file}" for registry in registries()]


def npm_pin(package, version):
    """The hash that the registry states for a version that the catalogue does not pin."""
    import base64
    import json

    for registry in registries():
        found = json.loads(get(f"{registry}/{package}/{version}"))
        algorithm, encoded = found["dist"]["integrity"].split()[0].split("-", 1)
        return f"{algorithm}-{base64.b64decode(encoded).hex()}"


def node_upstream(version, arch):
    """Location and hash of a Node.js release at its publisher's."""
    base = os.environ.get("STAITHE_NODE_MIRROR", NODE_MIRROR).rstrip("/") + f"/v{version}"
    file = f"node-v{version}-linux-{arch}.tar.gz"
    for line in get(f"{base}/SHASUMS256.txt").decode().splitlines():
        digest, _, name = line.partition("  ")
        if name == file:
            return [f"{base}/{file}"], f"sha256-{digest}"
    raise OSError(f"{base} does not list {file}")


def unpack(urls, pin, target, members=()):
    """Unpacks the archive with the hash `pin` from the first source that has it."""
    archive = obtain(urls, pin)
    os.makedirs(target, exist_ok=True)
    command = ["tar", "-xzf", archive, "-C", target, "--strip-components=1", "--no-same-owner"]
    if members:
        command += ["--wildcards", *members]
    subprocess.run(command, check=True)


def obtain(urls, pin):
    """The path of a verified download."""
    shared = f"{os.environ.get('STAITHE_DOWNLOADS', '/nonexistent')}/{pin}"
    if os.path.exists(shared) and digest(shared, pin) == pin:
        return shared
    folder = os.environ.get("STAITHE_NEW_DOWNLOADS") or os.environ.get("TMPDIR", "/tmp")
    path = f"{folder}/{pin}"
    if os.path.exists(path) and digest(path, pin) == pin:
        return path
    reasons = []
    for url in urls:
        try:
            download(url, path)
        except OSError as error:
            reasons.append(f"{url}: {error}")
            continue
        if digest(path, pin) == pin:
            return path
        os.remove(path)
        reasons.append(f"{url}: the download does not have the expected hash")
    raise OSError("; ".join(reasons))


def digest(path, pin):
    import hashlib

    algorithm = pin.split("-")[0]
    with open(path, "rb") as file:
        return f"{algorithm}-{hashlib.file_digest(file, algorithm).hexdigest()}"


def download(url, path):
    import shutil

    with request(url) as response, open(path, "wb") as file:
        shutil.copyfileobj(response, file, 1 << 20)


def get(url):
    with request(url) as response:
        return response.read(4 << 20)


def request(url):
    """A response; tried again where another try can help."""
    import time
    import urllib.error
    import urllib.request

    for attempt in range(1, TRIES + 1):
        try:
            return urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == TRIES:
                raise
        except OSError:
            if attempt == TRIES:
                raise
        pack.detail(f"trying {url} again")
        time.sleep(attempt)
